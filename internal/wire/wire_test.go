package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 8949 appendix A that are in the dialect.
var good = []string{
	"00", "01", "0a", "17", "1818", "1819", "1864", "1903e8", "1a000f4240", "1b000000e8d4a51000", "1bffffffffffffffff",
	"20", "29", "3863", "3903e7", "3bffffffffffffffff", "f4", "f5", "f6",
	"40", "4401020304", "60", "6161", "6449455446", "62225c", "62c3bc", "63e6b0b4",
	"80", "83010203", "8301820203820405", "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
	"a0", "a201020304", "a26161016162820203", "826161a161626163", "a56161614161626142616361436164614461656145",
}

// What the dialect leaves out or RFC 8949 §4.2.1 forbids.
var bad = map[string]string{
	"nothing":                      "",
	"two items":                    "0001",
	"integer in 1 byte, not 0":     "1817",
	"integer in 2 bytes, not 1":    "190018",
	"integer in 2 bytes, is 255":   "1900ff",
	"integer in 4 bytes, not 2":    "1a0000ffff",
	"integer in 8 bytes, not 4":    "1b00000000ffffffff",
	"negative not shortest":        "3817",
	"length of bytes not shortest": "5801 00",
	"length of text not shortest":  "780161",
	"array header not shortest":    "980100",
	"map header not shortest":      "b8010000",
	"reserved header 28":           "1c",
	"reserved header 30":           "1e",
	"indefinite bytes":             "5f4101ff",
	"indefinite text":              "7f6161ff",
	"indefinite array":             "9f01ff",
	"indefinite map":               "bf0101ff",
	"break alone":                  "ff",
	"tag":                          "c11a514b67b0",
	"bignum":                       "c249010000000000000000",
	"half float":                   "f93c00",
	"single float":                 "fa47c35000",
	"double float":                 "fb3ff199999999999a",
	"undefined":                    "f7",
	"simple value 16":              "f0",
	"simple value 255":             "f8ff",
	"text that is not UTF-8":       "61ff",
	"surrogate in UTF-8":           "63eda080",
	"integer cut":                  "19 01",
	"bytes cut":                    "42 01",
	"bytes of 2^63":                "5b8000000000000000",
	"text of 2^64-1":               "7bffffffffffffffff",
	"array cut":                    "82 01",
	"array of 2^64-1":              "9bffffffffffffffff",
	"map without value":            "a101",
	"map keys not sorted":          "a2 02 00 01 00",
	"map keys equal":               "a2 01 00 01 00",
	"map keys by length only":      "a2 20 00 1818 00",
	"non-canonical inside an item": "82 01 1817",
}

func TestCheckAccepts(t *testing.T) {
	for _, s := range good {
		b := unhex(t, s)
		if err := Check(b); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		var v any
		if err := Unmarshal(b, &v); err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if again := MustMarshal(v); !bytes.Equal(again, b) {
			t.Errorf("%s re-encodes as %x", s, again)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, s := range bad {
		b := unhex(t, s)
		if err := Check(b); err == nil {
			t.Errorf("%s (%s) accepted", name, s)
		}
		// Also where the library is told to take anything: a raw field must not carry what is not canonical.
		var raw struct {
			_    struct{} `cbor:",toarray"`
			Item Raw
		}
		if err := Unmarshal(append([]byte{0x81}, b...), &raw); err == nil {
			t.Errorf("%s (%s) accepted as a raw field", name, s)
		}
	}
}

func TestBounds(t *testing.T) {
	array := func(n int) []byte {
		return append([]byte{0x99, byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	pairs := func(n int) []byte {
		b := []byte{0xb8, byte(n)}
		for i := range n {
			if i > 23 {
				b = append(b, 0x18)
			}
			b = append(b, byte(i), 0)
		}
		return b
	}
	nest := func(n int) []byte { return append(bytes.Repeat([]byte{0x81}, n), 0) }
	blob := func(n int) []byte {
		return append([]byte{0x5a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	for name, c := range map[string]struct{ most, over []byte }{
		"array":   {array(MaxArray), array(MaxArray + 1)},
		"map":     {pairs(MaxMap), pairs(MaxMap + 1)},
		"nesting": {nest(MaxNesting), nest(MaxNesting + 1)},
		"map nesting": {
			append(bytes.Repeat([]byte{0xa1, 0x01}, MaxNesting), 0), append(bytes.Repeat([]byte{0xa1, 0x01}, MaxNesting+1), 0),
		},
	} {
		if err := Check(c.most); err != nil {
			t.Errorf("%s at its bound: %v", name, err)
		}
		if err := Check(c.over); err == nil {
			t.Errorf("%s above its bound accepted", name)
		}
		// The library's bounds are the same ones, so that neither is the only guard.
		var v any
		if err := decMode.Unmarshal(c.most, &v); err != nil {
			t.Errorf("%s at its bound: %v", name, err)
		}
		if err := decMode.Unmarshal(c.over, &v); err == nil {
			t.Errorf("%s above its bound decoded", name)
		}
	}
	if err := Check(blob(MaxInput - 5)); err == nil {
		t.Error("header of 4 bytes for a length of 2 accepted")
	}
	large := append([]byte{0x82, 0x59, 0xff, 0xff}, make([]byte, 0xffff)...)
	if err := Check(append(large, 0)); err == nil || len(large) < MaxInput {
		t.Errorf("input of %d bytes: %v", len(large)+1, err)
	}
	fits := append([]byte{0x59, 0xff, 0xf0}, make([]byte, 0xfff0)...)
	if err := Check(fits); err != nil {
		t.Error(err)
	}
}

type sample struct {
	Number uint64   `cbor:"1,keyasint"`
	Fixed  [4]byte  `cbor:"2,keyasint"`
	Text   string   `cbor:"3,keyasint"`
	List   []uint64 `cbor:"4,keyasint"`
	Maybe  uint64   `cbor:"5,keyasint,omitempty"`
}

// Canonical bytes that are not the encoding of any value of the type: only re-encoding can refuse these.
func TestUnmarshalRefusesOtherTypes(t *testing.T) {
	ok := "a4 01 05 02 4401020304 03 6161 04 8101"
	var v sample
	if err := Unmarshal(unhex(t, ok), &v); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"null for a number":           "a4 01 f6 02 4401020304 03 6161 04 8101",
		"null for a text":             "a4 01 05 02 4401020304 03 f6 04 8101",
		"null for a list":             "a4 01 05 02 4401020304 03 6161 04 f6",
		"short fixed bytes":           "a4 01 05 02 43010203 03 6161 04 8101",
		"long fixed bytes":            "a4 01 05 02 450102030405 03 6161 04 8101",
		"array for fixed bytes":       "a4 01 05 02 8401020304 03 6161 04 8101",
		"bytes for a text":            "a4 01 05 02 4401020304 03 4161 04 8101",
		"bytes for a list":            "a4 01 05 02 4401020304 03 6161 04 4101",
		"bool for a number":           "a4 01 f5 02 4401020304 03 6161 04 8101",
		"negative for unsigned":       "a4 01 20 02 4401020304 03 6161 04 8101",
		"unknown field":               "a5 01 05 02 4401020304 03 6161 04 8101 06 00",
		"field by text key":           "a5 01 05 02 4401020304 03 6161 04 8101 6131 00",
		"missing field":               "a3 01 05 02 4401020304 03 6161",
		"optional field that is zero": "a5 01 05 02 4401020304 03 6161 04 8101 05 00",
		"array for the struct":        "84 05 4401020304 6161 8101",
	} {
		var v sample
		if err := Unmarshal(unhex(t, s), &v); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	var wrong struct {
		_ struct{} `cbor:",toarray"`
		A uint64
	}
	for _, s := range []string{"80", "820102", "a10101"} {
		if err := Unmarshal(unhex(t, s), &wrong); err == nil {
			t.Errorf("%s read as an array of one", s)
		}
	}
}

// The second step has to be there: this is what the library accepts when it stands alone.
func TestReencodingIsNeeded(t *testing.T) {
	var v sample
	if err := decMode.Unmarshal(unhex(t, "a4 01 f6 02 43010203 03 6161 04 8101"), &v); err != nil {
		return // the library has become stricter, which is fine
	}
	if err := Unmarshal(unhex(t, "a4 01 f6 02 43010203 03 6161 04 8101"), &v); !errors.Is(err, ErrNotCanonical) {
		t.Errorf("err = %v", err)
	}
}

func TestMarshal(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{sample{Number: 24, Text: "a"}, "a4 01 1818 02 4400000000 03 6161 04 80"},
		{map[uint64]any{300: nil, 2: true, 10: "x"}, "a3 02 f5 0a 6178 19012c f6"},
		{[]byte(nil), "40"},
	} {
		b, err := Marshal(c.v)
		if err != nil || !bytes.Equal(b, unhex(t, c.want)) {
			t.Errorf("%#v: %x, %v, want %s", c.v, b, err, c.want)
		}
	}
	if _, err := Marshal(func() {}); err == nil {
		t.Error("function encoded")
	}
	defer func() {
		if recover() == nil {
			t.Error("MustMarshal of a function returned")
		}
	}()
	MustMarshal(func() {})
}

func TestKind(t *testing.T) {
	for s, want := range map[string]uint64{"8101": 1, "821818 00": 24, "8118ff": 255, "8200": 0} {
		if k, err := Kind(unhex(t, s)); err != nil || k != want {
			t.Errorf("%s: %d %v", s, k, err)
		}
	}
	for _, s := range []string{"", "80", "81", "a10101", "01", "8120", "816161", "81190100", "811817", "980101", "9f01ff", "8118", "990201 01", "8001"} {
		if k, err := Kind(unhex(t, s)); err == nil {
			t.Errorf("%s has kind %d", s, k)
		}
	}
}

// Truncating or extending any good input is refused.
func TestEveryPrefix(t *testing.T) {
	for _, s := range good {
		b := unhex(t, s)
		for i := range b {
			if Check(b[:i]) == nil {
				t.Errorf("%s: its first %d bytes accepted", s, i)
			}
		}
		if Check(append(bytes.Clone(b), 0)) == nil {
			t.Errorf("%s with a byte behind it accepted", s)
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	b := unhex(t, "a26161016162820203")
	if n := testing.AllocsPerRun(100, func() { _ = Check(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzUnmarshal holds the two steps against each other and against the rule: what parses re-encodes to the same bytes.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range good {
		f.Add(unhex(f, s))
	}
	for _, s := range bad {
		f.Add(unhex(f, s))
	}
	f.Add(unhex(f, "a4 01 05 02 4401020304 03 6161 04 8101"))
	f.Fuzz(func(t *testing.T, b []byte) {
		checked := Check(b)
		for _, v := range []any{new(any), new(sample), new(Raw), new([]uint64), new(map[uint64]any), new(string)} {
			if err := Unmarshal(b, v); err != nil {
				continue
			}
			if checked != nil {
				t.Fatalf("%x decodes as %T although %v", b, v, checked)
			}
			if again := MustMarshal(v); !bytes.Equal(again, b) {
				t.Fatalf("%x re-encodes as %x", b, again)
			}
		}
		// Whatever Check accepts, the library reads as some value and writes back the same.
		var v any
		if checked == nil {
			if err := Unmarshal(b, &v); err != nil && !unhashable(err) {
				t.Fatalf("%x passes Check, but: %v", b, err)
			}
		}
		if k, err := Kind(b); err == nil && checked == nil {
			var list []any
			if err := decMode.Unmarshal(b, &list); err == nil && list[0] != k {
				t.Fatalf("%x has kind %d and first element %v", b, k, list[0])
			}
		}
	})
}

// unhashable reports that a Go map cannot hold the key, an array or map, of a map read into any.
func unhashable(err error) bool { return strings.Contains(err.Error(), "map key") }
