package identity

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// TestVectors makes every object and compares it with testdata/vectors.json, which a second implementation
// (../keys/testdata/vectors.py) has written from the specification; then it reads each of them.
func TestVectors(t *testing.T) {
	want := vectors(t)
	node, issuer := testKey(t, 1), testKey(t, 2)
	cert, err := IssueCertificate(smallCert(t), issuer)
	if err != nil {
		t.Fatal(err)
	}
	large, err := IssueCertificate(largeCert(t), issuer)
	if err != nil {
		t.Fatal(err)
	}
	binding, err := IssueBinding(smallBinding(t), node)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := SignCSR(smallCSR(t), node)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"certificate":       hex.EncodeToString(cert.Raw()),
		"certificate id":    cert.ID.String(),
		"large certificate": hex.EncodeToString(large.Raw()),
		"binding":           hex.EncodeToString(binding.Raw()),
		"request":           hex.EncodeToString(csr.Raw()),
		"envelope of two":   hex.EncodeToString(Seal(keys.LabelEntry, testMesh, []byte("payload"), node, issuer).Encode()),
		"invite":            smallInvite(t).Encode(),
	} {
		if got != want[name] {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("nothing compared with %s", name)
	}
}

func TestVectorsParse(t *testing.T) {
	raw := func(name string) []byte {
		b, err := hex.DecodeString(vectors(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, name := range []string{"certificate", "large certificate"} {
		c, err := ParseCertificate(raw(name), testMesh)
		if err != nil || c.Node != testKey(t, 1).NodeID() || c.Issuer != testKey(t, 2).Public() || !bytes.Equal(c.Raw(), raw(name)) {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
	if b, err := ParseBinding(raw("binding"), testMesh); err != nil || b.Binding != smallBinding(t) || !bytes.Equal(b.Raw(), raw("binding")) {
		t.Errorf("binding: %+v %v", b, err)
	}
	c, err := ParseCSR(raw("request"), testMesh, keys.Hash(seq(0x40)))
	if err != nil || c.Name != "gpu1" || len(c.Tags) != 2 || !bytes.Equal(c.Raw(), raw("request")) {
		t.Errorf("request: %+v %v", c, err)
	}
	v, err := ParseInvite(vectors(t)["invite"])
	if err != nil || v.Name != "gpu1" || !v.Secret.IsSet() || len(v.Heads) != 2 || len(v.Endpoints) != 2 || v.IssuerNode != testKey(t, 1).NodeID() {
		t.Errorf("invite: %+v %v", v, err)
	}
}
