package wire

import "testing"

// BenchmarkUnmarshal is a map of four fields; BenchmarkCheck the part of it that walks the bytes.
func BenchmarkUnmarshal(b *testing.B) {
	data := MustMarshal(sample{Number: 7, Text: "some text", List: []uint64{1, 2, 3}})
	for b.Loop() {
		var v sample
		if err := Unmarshal(data, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	data := MustMarshal(sample{Number: 7, Text: "some text", List: []uint64{1, 2, 3}})
	for b.Loop() {
		if err := Check(data); err != nil {
			b.Fatal(err)
		}
	}
}
