package identity

import "testing"

func BenchmarkParseCertificate(b *testing.B) {
	c, err := IssueCertificate(smallCert(b), testKey(b, 2))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ParseCertificate(c.Raw(), testMesh); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseBinding(b *testing.B) {
	c, err := IssueBinding(smallBinding(b), testKey(b, 1))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ParseBinding(c.Raw(), testMesh); err != nil {
			b.Fatal(err)
		}
	}
}
