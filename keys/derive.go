package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// kdf is HKDF-SHA256(ikm, salt, info) with 32 bytes of output.
func kdf(ikm, salt []byte, info string) secret {
	out, err := hkdf.Key(sha256.New, ikm, salt, info, 32)
	if err != nil {
		panic(err) // impossible for 32 bytes
	}
	return newSecret(out)
}

// GroupSecret is generation g of the secret every member holds.
type GroupSecret struct {
	secret
	Generation uint64
}

// NewGroupSecret makes a fresh secret for a generation.
func NewGroupSecret(generation uint64) GroupSecret {
	var b [32]byte
	rand.Read(b[:])
	return GroupSecret{newSecret(b[:]), generation}
}

// GroupSecretFromBytes reads a group secret from a key file or a GROUP record.
func GroupSecretFromBytes(generation uint64, b []byte) (GroupSecret, error) {
	if len(b) != 32 {
		return GroupSecret{}, fmt.Errorf("group secret has %d bytes, want 32", len(b))
	}
	return GroupSecret{newSecret(b), generation}, nil
}

// Gate derives psk0 of the handshake: KDF(S_g, mesh_id, "meshkey/1 gate").
func (s GroupSecret) Gate(m MeshID) PSK { return PSK{kdf(s.Bytes(), m[:], infoGate)} }

// BeaconKey derives the key that seals beacons: KDF(S_g, mesh_id, "meshkey/1 beacon").
func (s GroupSecret) BeaconKey(m MeshID) BeaconKey {
	return BeaconKey{kdf(s.Bytes(), m[:], infoBeacon)}
}

// Commitment is what the log says of the secret: H("meshkey/1 group" || mesh_id || u64 generation || secret).
func (s GroupSecret) Commitment(m MeshID) Hash {
	return Sum([]byte(infoGroup), m[:], binary.BigEndian.AppendUint64(nil, s.Generation), s.Bytes())
}

// NewInviteSecret makes the secret of a fresh invite.
func NewInviteSecret() InviteSecret {
	var b [32]byte
	rand.Read(b[:])
	return InviteSecret{newSecret(b[:])}
}

// InviteSecret derives the secret of the invite with the given id from an issuer's key, KDF(seed, mesh_id || id,
// "meshkey/1 iv-secret"): the issuer stores no secret, and a fresh random id makes a fresh invite.
func (k *SigningKey) InviteSecret(m MeshID, id [8]byte) InviteSecret {
	return InviteSecret{kdf(k.Seed(), append(m[:], id[:]...), infoInviteKey)}
}

// InviteSecretFromBytes reads the secret of an invite.
func InviteSecretFromBytes(b []byte) (InviteSecret, error) {
	if len(b) != 32 {
		return InviteSecret{}, fmt.Errorf("invite secret has %d bytes, want 32", len(b))
	}
	return InviteSecret{newSecret(b)}, nil
}

// PSK derives psk0 of the enrolment handshake: KDF(secret, mesh_id, "meshkey/1 invite").
func (s InviteSecret) PSK(m MeshID) PSK { return PSK{kdf(s.Bytes(), m[:], infoInvite)} }

// KEMPSK derives psk2: KDF(kem_ss, H("meshkey/1 kem" || ek || ct), "meshkey/1 psk2"). The encapsulation key and the
// ciphertext are hashed in because ML-KEM alone does not bind its shared secret to them.
func KEMPSK(sharedSecret, ek, ct []byte) PSK {
	salt := Sum([]byte(infoKEM), ek, ct)
	return PSK{kdf(sharedSecret, salt[:], infoPSK2)}
}

// TrafficKeyFromBytes wraps a 32-byte key the Noise library split off; any other length panics.
func TrafficKeyFromBytes(b []byte) TrafficKey { return TrafficKey{newSecret(b)} }

// NewSession derives the exporter and completes a session's keys: X = KDF(k1 || k2, h, "meshkey/1 exporter").
func NewSession(suite Suite, generation uint64, k1, k2 TrafficKey, h Hash) Session {
	ikm := append(k1.Bytes(), k2.Bytes()...)
	x := Exporter{kdf(ikm, h[:], infoExporter)}
	clear(ikm)
	return Session{Suite: suite, Generation: generation, K1: k1, K2: k2, Exporter: x, Hash: h}
}

// RekeyPSK derives psk0 of an in-band rekey: KDF(X_g, h_g, "meshkey/1 rk-psk").
func (x Exporter) RekeyPSK(h Hash) PSK { return PSK{kdf(x.Bytes(), h[:], infoRekeyPSK)} }

// RekeyPrologue is the Noise prologue of the rekey to generation g+1:
// "meshkey/1 rekey" || 0x00 || mesh_id || h_g || u64(g+1).
func RekeyPrologue(m MeshID, h Hash, next uint64) []byte {
	p := append([]byte(infoRekey), 0)
	p = append(p, m[:]...)
	p = append(p, h[:]...)
	return binary.BigEndian.AppendUint64(p, next)
}

// HandshakePrologue is "meshkey/1" || 0x00 || suite || mesh_id || responder node_id.
func HandshakePrologue(suite Suite, m MeshID, responder NodeID) []byte {
	p := append([]byte(Prologue), 0, byte(suite))
	p = append(p, m[:]...)
	return append(p, responder[:]...)
}

// Tag names one stream connection to the one peer that can look it up. Unlinkable outside, single use.
type Tag [16]byte

// Role says who sends S1 of a stream: the dialer of the control session or its acceptor.
type Role uint8

const (
	// RoleDialer is the side that dialled the control session.
	RoleDialer Role = 0
	// RoleAcceptor is the side that accepted it.
	RoleAcceptor Role = 1
)

// Direction of one half of a stream.
type Direction uint8

const (
	// DirForward is from the sender of S1.
	DirForward Direction = 0
	// DirBack is to the sender of S1.
	DirBack Direction = 1
)

// StreamTag is KDF(X_g, "", "meshkey/1 stream tag" || 0x00 || role u8 || counter u64)[:16].
func (x Exporter) StreamTag(role Role, counter uint64) Tag {
	info := append([]byte(infoStreamTag), 0, byte(role))
	info = binary.BigEndian.AppendUint64(info, counter)
	s := kdf(x.Bytes(), nil, string(info))
	return Tag(s.Bytes()[:16])
}

// StreamKey is KDF(X_g, "", "meshkey/1 stream key" || 0x00 || role u8 || counter u64 || dir u8).
func (x Exporter) StreamKey(role Role, counter uint64, dir Direction) TrafficKey {
	info := append([]byte(infoStreamKey), 0, byte(role))
	info = binary.BigEndian.AppendUint64(info, counter)
	info = append(info, byte(dir))
	return TrafficKey{kdf(x.Bytes(), nil, string(info))}
}

// NextStreamKey is K_{g+1} = KDF(X_{g+1}, K_g, "meshkey/1 stream rekey"), called on X_{g+1}.
func (x Exporter) NextStreamKey(k TrafficKey) TrafficKey {
	return TrafficKey{kdf(x.Bytes(), k.Bytes(), infoStreamNext)}
}

// ChainStart is prev of an issuer's first entry: H("meshkey/1 chain" || mesh_id || issuer).
func ChainStart(m MeshID, issuer PublicKey) Hash {
	return Sum([]byte(infoChain), m[:], issuer[:])
}

// ConfirmationHash is what the confirmation words of an enrolment are taken from: H("meshkey/1 words" || channel binding).
func ConfirmationHash(channel Hash) Hash { return Sum([]byte(infoWords), channel[:]) }

// RequestHash is what the words of a certificate request are taken from: H("meshkey/1 csr-words" || H(payload)).
func RequestHash(request Hash) Hash { return Sum([]byte(infoCSRWords), request[:]) }
