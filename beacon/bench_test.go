package beacon

import (
	"testing"
	"time"
)

// BenchmarkNoise is what an outsider's datagram costs: two keys are tried.
func BenchmarkNoise(b *testing.B) {
	r := newRig(b)
	r.keys = generationKeys(testMesh, 3, 2)
	d := r.beaconOf(1, 1)
	d[len(d)-1] ^= 1
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.now = r.now.Add(sourceEvery)
		if _, err := r.hear(d, addr(i)); err != error(DropSealed) {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenAndDecode is what a member's datagram costs up to the replay check: opened and parsed, not verified.
func BenchmarkOpenAndDecode(b *testing.B) {
	r := newRig(b)
	d := r.beaconOf(1, 1)
	r.wantHeard(d, peerAddr)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.now = r.now.Add(time.Millisecond)
		if _, err := r.hear(d, addr(i)); err != error(DropReplay) {
			b.Fatal(err)
		}
	}
}

// BenchmarkHeard is a beacon through every check, verified. The clock advances so that no budget is used up.
func BenchmarkHeard(b *testing.B) {
	r := newRig(b)
	const n = 512
	var ds [n][]byte
	for i := range ds {
		ds[i] = r.beaconOf(1, uint64(i+1))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.now = r.now.Add(time.Second)
		if i%n == 0 {
			b.StopTimer()
			*r = *newRig(b)
			b.StartTimer()
		}
		if _, err := r.hear(ds[i%n], addr(i)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnnounce is what each beacon costs its sender: encode, sign, seal.
func BenchmarkAnnounce(b *testing.B) {
	an, err := NewAnnouncer(AnnouncerConfig{Mesh: testMesh, Node: signer(1), Epoch: 1})
	if err != nil {
		b.Fatal(err)
	}
	ks := generationKeys(testMesh, 1)
	facts := Facts{Endpoints: manyEndpoints()[:3], UnicastPort: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := an.Announce(facts, 0, ks, testTime); err != nil {
			b.Fatal(err)
		}
	}
}
