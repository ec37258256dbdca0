package keys

// Label is the domain of one kind of signature. Only this file makes labels, so the registry below is the whole list.
type Label struct{ s string }

// String returns the label's ASCII text.
func (l Label) String() string { return l.s }

// The signature domains. A signature made under one label never verifies under another.
var (
	LabelRoot    = Label{"root"}
	LabelEntry   = Label{"entry"}
	LabelHead    = Label{"head"}
	LabelCert    = Label{"cert"}
	LabelBinding = Label{"binding"}
	LabelBeacon  = Label{"beacon"}
	LabelCSR     = Label{"csr"}
	LabelRotate  = Label{"rotate"}
	LabelReceipt = Label{"receipt"}
	LabelWitness = Label{"witness"}
	LabelAudit   = Label{"audit"}
	LabelCache   = Label{"cache"}
	LabelHealth  = Label{"health"}
	LabelLeave   = Label{"leave"}
)

// Labels lists every signature domain, for the test that proves them unique and prefix-free.
func Labels() []Label {
	return []Label{
		LabelRoot, LabelEntry, LabelHead, LabelCert, LabelBinding, LabelBeacon, LabelCSR, LabelRotate, LabelReceipt, LabelWitness,
		LabelAudit, LabelCache, LabelHealth, LabelLeave,
	}
}

// sigPrefix opens every signature input: sigPrefix || label || 0x00 || mesh_id || payload.
const sigPrefix = "meshkey/1 "

// Prologue is the start of every Noise prologue of this version.
const Prologue = "meshkey/1"

// The KDF and hash infos: one constant per derived secret, none a prefix of another.
const (
	infoGate       = "meshkey/1 gate"
	infoBeacon     = "meshkey/1 beacon"
	infoInvite     = "meshkey/1 invite"
	infoInviteKey  = "meshkey/1 iv-secret"
	infoKEM        = "meshkey/1 kem"
	infoPSK2       = "meshkey/1 psk2"
	infoExporter   = "meshkey/1 exporter"
	infoRekey      = "meshkey/1 rekey"
	infoRekeyPSK   = "meshkey/1 rk-psk"
	infoStreamTag  = "meshkey/1 stream tag"
	infoStreamKey  = "meshkey/1 stream key"
	infoStreamNext = "meshkey/1 stream rekey"
	infoGroup      = "meshkey/1 group"
	infoChain      = "meshkey/1 chain"
	infoNodeCheck  = "meshkey/1 node-check"
	infoWords      = "meshkey/1 words"
	infoCSRWords   = "meshkey/1 csr-words"
	infoCSRKey     = "meshkey/1 csr-key"
	infoResponse   = "meshkey/1 response"
)

// BeaconAD is the associated data of a sealed beacon; the same text derives the beacon key, which is safe because one is an
// AEAD's associated data and the other an HKDF info.
const BeaconAD = infoBeacon

// Infos lists every KDF and hash info, for the test that proves them unique and prefix-free.
func Infos() []string {
	return []string{
		infoGate, infoBeacon, infoInvite, infoInviteKey, infoKEM, infoPSK2, infoExporter, infoRekey, infoRekeyPSK, infoStreamTag, infoStreamKey,
		infoStreamNext, infoGroup, infoChain, infoNodeCheck, infoWords, infoCSRWords, infoCSRKey, infoResponse,
	}
}
