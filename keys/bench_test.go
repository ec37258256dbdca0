package keys

import "testing"

func BenchmarkCheckPublicKey(b *testing.B) {
	k := testKey(b, 1).Public()
	for b.Loop() {
		if err := CheckPublicKey(k); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	k, payload := testKey(b, 1), make([]byte, 300)
	for b.Loop() {
		k.Sign(LabelCert, MeshID{1}, payload)
	}
}

func BenchmarkVerify(b *testing.B) {
	k, payload := testKey(b, 1), make([]byte, 300)
	sig := k.Sign(LabelCert, MeshID{1}, payload)
	for b.Loop() {
		if !k.Public().Verify(LabelCert, MeshID{1}, payload, sig) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkStreamKey(b *testing.B) {
	x := Exporter{newSecret(seq(1))}
	for b.Loop() {
		x.StreamKey(RoleDialer, 7, DirForward)
	}
}
