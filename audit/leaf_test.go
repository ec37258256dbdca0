package audit

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

func TestCodesAreRegisteredOnce(t *testing.T) {
	seen := make(map[Code]bool)
	for _, c := range Codes() {
		if seen[c] || !c.Registered() || !c.wellFormed() {
			t.Errorf("%s: twice, not registered, or not noun.verb", c)
		}
		seen[c] = true
	}
	for _, c := range []Code{"", "stream", "stream.", ".open", "stream.opened", "Stream.open", "a.b.c", "stream.open "} {
		if c.Registered() {
			t.Errorf("%q is registered", c)
		}
	}
	for _, c := range []Code{"", "stream", "stream.", ".open", "Stream.open", "a.b.c", "a.b ", "a.é", Code(strings.Repeat("a", maxCode) + ".b")} {
		if c.wellFormed() {
			t.Errorf("%q is well formed", c)
		}
	}
	for v := None; v <= Failed; v++ {
		if got, ok := ParseVerdict(v.String()); !ok || got != v {
			t.Errorf("verdict %d: %v, %v", v, got, ok)
		}
	}
	if _, ok := ParseVerdict("maybe"); ok {
		t.Error("unknown verdict")
	}
}

// largest is an event with every field at its maximum.
func largest() Event {
	s := func(n int) string { return strings.Repeat("w", n) }
	return Event{
		Time: time.UnixMilli(maxTimeMs), Code: InterfaceUnmute, Actor: s(maxActor), Target: s(maxTarget), Verdict: Failed,
		Reason: s(maxReason), Grant: s(maxGrant), Session: s(maxSession), Bytes: math.MaxUint64, Duration: math.MaxInt64,
		Before: s(maxChange), After: s(maxChange), Count: math.MaxUint64,
	}
}

func TestLeafRoundTrip(t *testing.T) {
	for _, e := range []Event{
		{Time: time.UnixMilli(0), Code: DaemonStart},
		{Time: time.UnixMilli(1), Code: StreamDeny, Verdict: Denied, Reason: "no grant · Größe", Count: 1},
		largest(),
	} {
		b, err := encodeLeaf(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxLeaf {
			t.Errorf("%d bytes", len(b))
		}
		got, err := parseLeaf(b)
		if err != nil {
			t.Fatal(err)
		}
		e.Time, e.Duration = e.Time.UTC(), e.Duration.Truncate(time.Millisecond)
		if got != e {
			t.Errorf("got %+v, want %+v", got, e)
		}
	}
}

func TestLeafBytes(t *testing.T) {
	b, err := encodeLeaf(Event{Time: time.UnixMilli(1000), Code: StreamOpen, Actor: "a", Verdict: Allowed, Duration: 2 * time.Millisecond})
	want := []byte{
		0xa6, 0x01, 0x01, 0x02, 0x19, 0x03, 0xe8, 0x03, 0x6b, 's', 't', 'r', 'e', 'a', 'm', '.', 'o', 'p', 'e', 'n',
		0x04, 0x61, 'a', 0x06, 0x01, 0x0b, 0x02,
	}
	if err != nil || !bytes.Equal(b, want) {
		t.Fatalf("% x, %v", b, err)
	}
}

func TestEncodeLeafRefuses(t *testing.T) {
	for name, e := range map[string]Event{
		"code":     {Code: "stream.opened", Time: time.UnixMilli(1)},
		"no code":  {Time: time.UnixMilli(1)},
		"verdict":  {Code: StreamOpen, Time: time.UnixMilli(1), Verdict: 4},
		"time":     {Code: StreamOpen, Time: time.UnixMilli(-1)},
		"year":     {Code: StreamOpen, Time: time.UnixMilli(maxTimeMs + 1)},
		"duration": {Code: StreamOpen, Time: time.UnixMilli(1), Duration: -1},
	} {
		if b, err := encodeLeaf(e); !errors.Is(err, ErrEvent) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseLeafRefuses(t *testing.T) {
	good := leaf{Version: 1, TimeMs: 5, Code: "stream.open", Actor: "laptop"}
	if _, err := parseLeaf(wire.MustMarshal(&good)); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(l *leaf){
		"version":  func(l *leaf) { l.Version = 2 },
		"time":     func(l *leaf) { l.TimeMs = maxTimeMs + 1 },
		"code":     func(l *leaf) { l.Code = "stream" },
		"verdict":  func(l *leaf) { l.Verdict = 4 },
		"duration": func(l *leaf) { l.Duration = math.MaxUint64 },
		"actor":    func(l *leaf) { l.Actor = strings.Repeat("a", maxActor+1) },
		"target":   func(l *leaf) { l.Target = strings.Repeat("a", maxTarget+1) },
		"reason":   func(l *leaf) { l.Reason = strings.Repeat("a", maxReason+1) },
		"grant":    func(l *leaf) { l.Grant = strings.Repeat("a", maxGrant+1) },
		"session":  func(l *leaf) { l.Session = strings.Repeat("a", maxSession+1) },
		"before":   func(l *leaf) { l.Before = strings.Repeat("a", maxChange+1) },
		"after":    func(l *leaf) { l.After = strings.Repeat("a", maxChange+1) },
		"control":  func(l *leaf) { l.Reason = "a\x1b[2J" },
		"newline":  func(l *leaf) { l.Reason = "a\nb" },
		"c1":       func(l *leaf) { l.Reason = "a\u009bb" },
		"bidi":     func(l *leaf) { l.Reason = "a\u202eb" },
		"line":     func(l *leaf) { l.Reason = "a\u2028b" },
		"secret":   func(l *leaf) { l.Reason = "AGE-SECRET-KEY-1QQQ" },
	} {
		l := good
		edit(&l)
		if e, err := parseLeaf(wire.MustMarshal(&l)); !errors.Is(err, ErrLeaf) || e != (Event{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := wire.MustMarshal(&good)
	for name, bad := range map[string][]byte{
		"empty": {}, "cut": b[:len(b)-1], "trailing": append(bytes.Clone(b), 0), "long": make([]byte, maxLeaf+1),
		"unknown field": append([]byte{b[0] + 1}, append(bytes.Clone(b[1:]), 0x0f, 0x01)...),
		"empty field":   append([]byte{b[0] + 1}, append(bytes.Clone(b[1:]), 0x05, 0x60)...),
		"zero field":    append([]byte{b[0] + 1}, append(bytes.Clone(b[1:]), 0x06, 0x00)...),
		"array":         {0x80},
	} {
		_, err := parseLeaf(bad)
		if !errors.Is(err, ErrLeaf) || name == "long" && !strings.Contains(err.Error(), "2049 bytes") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFitCutsAndCleans(t *testing.T) {
	invite := "mk1i" + strings.Repeat("abcdefghij234567", 8)
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"größer als", "größer als"},
		{"a\x00b\x1b", "a\ufffdb\ufffd"},
		{"bad \xff\xfe utf8", "bad \ufffd utf8"},
		{"hid\u200bden\u202e", "hid\ufffdden\ufffd"},
		{"key AGE-SECRET-KEY-1ABC", redacted},
		{"key age-secret-key-1abc", redacted},
		{"AGE-PLUGIN-YUBIKEY-1", redacted},
		{"see " + invite, redacted},
		{"host mk1inch", "host mk1inch"},
		{strings.Repeat("a", 100), strings.Repeat("a", 61) + ellipsis},
		{strings.Repeat("é", 100), strings.Repeat("é", 30) + ellipsis},
		{strings.Repeat("a", 50) + invite, redacted},
	} {
		got := fit(c.in, 64)
		if got != c.want {
			t.Errorf("fit(%q) = %q, want %q", c.in, got, c.want)
		}
		if fit(got, 64) != got || len(got) > 64 || !utf8.ValidString(got) {
			t.Errorf("fit(%q) = %q is not fit", c.in, got)
		}
	}
}

func TestSecretsDoNotReachTheDisk(t *testing.T) {
	secret := "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSQ"
	b, err := encodeLeaf(Event{
		Time: time.UnixMilli(1), Code: StreamOpen, Actor: secret, Target: secret, Reason: "x" + secret, Grant: secret,
		Session: secret, Before: secret, After: secret,
	})
	if err != nil || bytes.Contains(bytes.ToUpper(b), []byte("AGE-SECRET")) {
		t.Fatalf("%q, %v", b, err)
	}
}

func testNote(t testing.TB) (*Checkpoint, string, keys.NodeID) {
	t.Helper()
	key := testKey(t, 1)
	origin := Origin(testMesh, key.NodeID())
	cp, err := signCheckpoint(key, origin, 123456, tlog.Hash{1, 2, 3}, time.Unix(1_700_000_000, 5))
	if err != nil {
		t.Fatal(err)
	}
	return cp, origin, key.NodeID()
}

func TestCheckpointRoundTrip(t *testing.T) {
	cp, origin, node := testNote(t)
	got, err := parseCheckpoint(cp.Note, origin, node)
	if err != nil {
		t.Fatal(err)
	}
	if got.Size != 123456 || got.Root != cp.Root || !got.Time.Equal(time.Unix(1_700_000_000, 0)) || got.Origin != origin || got.Others != 0 {
		t.Fatalf("%+v", got)
	}
	if want := "meshkey/4d455348/audit/" + node.Compact(); origin != want {
		t.Fatalf("origin %q, want %q", origin, want)
	}
	// Any C2SP tool can check it with the vkey alone.
	v, err := note.NewVerifier(VerifierKey(testMesh, node))
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(cp.Note, note.VerifierList(v))
	if err != nil || n.Text != origin+"\n123456\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" {
		t.Fatalf("%q, %v", n.Text, err)
	}
}

// cosigned adds the signature lines of n witnesses to a checkpoint, as C2SP says.
func cosigned(t testing.TB, b []byte, n int) []byte {
	t.Helper()
	return cosignedAs(t, b, n, "witness")
}

func cosignedAs(t testing.TB, b []byte, n int, name string) []byte {
	t.Helper()
	for i := range n {
		key := testKey(t, byte(100+i))
		w := noteSigner{name + strconv.Itoa(i), algCosignature, key.Public(), func(text []byte) []byte {
			sig := key.Sign(keys.LabelWitness, testMesh, text)
			return append(make([]byte, 8), sig[:]...)
		}}
		_, origin, node := testNote(t)
		plain, dated, err := logVerifiers(origin, node)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := note.Open(b, note.VerifierList(plain, dated))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = note.Sign(opened, w); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestCheckpointTakesCosignatures(t *testing.T) {
	cp, origin, node := testNote(t)
	b := cosigned(t, cp.Note, maxCosignatures)
	got, err := parseCheckpoint(b, origin, node)
	if err != nil || got.Others != maxCosignatures || !bytes.Equal(got.Note, b) || got.Size != cp.Size {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := parseCheckpoint(cosigned(t, cp.Note, maxCosignatures+1), origin, node); !errors.Is(err, ErrCheckpoint) {
		t.Fatalf("too many cosignatures: %v", err)
	}
	if _, err := parseCheckpoint(cosignedAs(t, cp.Note, 1, strings.Repeat("w", maxNote)), origin, node); !errors.Is(err, ErrCheckpoint) {
		t.Fatalf("a note that is too long: %v", err)
	}
}

func TestParseCheckpointRefuses(t *testing.T) {
	cp, origin, node := testNote(t)
	key := testKey(t, 1)
	lines := strings.SplitAfter(string(cp.Note), "\n") // origin, size, root, "", plain, dated, ""
	join := func(l ...string) []byte { return []byte(strings.Join(l, "")) }
	resign := func(text string, alsoDated bool) []byte {
		plain, dated := signers(key, origin, 1_700_000_000)
		list := []note.Signer{plain}
		if alsoDated {
			list = append(list, dated)
		}
		b, err := note.Sign(&note.Note{Text: text}, list...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text := join(lines[:3]...)
	if _, err := parseCheckpoint(resign(string(text), true), origin, node); err != nil {
		t.Fatalf("the test's own signers: %v", err)
	}
	for name, bad := range map[string][]byte{
		"empty":             {},
		"long":              make([]byte, maxNote+1),
		"dated missing":     join(lines[:5]...),
		"plain missing":     join(lines[0], lines[1], lines[2], lines[3], lines[5]),
		"order":             join(lines[0], lines[1], lines[2], lines[3], lines[5], lines[4]),
		"line twice":        join(lines[0], lines[1], lines[2], lines[3], lines[4], lines[4], lines[5]),
		"witness first":     join(lines[0], lines[1], lines[2], lines[3], "— w AAAAAAAA\n", lines[4], lines[5]),
		"base64 spelling":   join(lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], "— w AAAAAAB=\n"),
		"extension":         resign(string(text)+"more\n", true),
		"other origin":      resign("x"+string(text), true),
		"size with zero":    resign(lines[0]+"0"+lines[1]+lines[2], true),
		"negative size":     resign(lines[0]+"-1\n"+lines[2], true),
		"root too short":    resign(lines[0]+lines[1]+"AQID\n", true),
		"root spelling":     resign(lines[0]+lines[1]+strings.Replace(lines[2], "A=", "B=", 1), true),
		"only one signer":   resign(string(text), false),
		"text after signed": append(bytes.Clone(cp.Note), "x\n"...),
	} {
		if got, err := parseCheckpoint(bad, origin, node); !errors.Is(err, ErrCheckpoint) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := parseCheckpoint(cp.Note, Origin(keys.MeshID{9}, node), node); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another mesh: %v", err)
	}
	if _, err := parseCheckpoint(cp.Note, origin, testKey(t, 2).NodeID()); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another node: %v", err)
	}
	late, err := signCheckpoint(key, origin, 1, tlog.Hash{}, time.UnixMilli(maxTimeMs).Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseCheckpoint(late.Note, origin, node); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("a date beyond the calendar: %v", err)
	}
}

// TestNoteIsNoOtherSignature proves that what is signed as a note is never a signature input of this program.
func TestNoteIsNoOtherSignature(t *testing.T) {
	cp, _, _ := testNote(t)
	text, _, _ := strings.Cut(string(cp.Note), "\n\n")
	for _, label := range keys.Labels() {
		for _, prefix := range []string{text, "cosignature/v1"} {
			input := "meshkey/1 " + label.String() + "\x00"
			if strings.HasPrefix(prefix, input[:10]) || strings.HasPrefix(input, prefix) {
				t.Errorf("a note begins like the label %s", label)
			}
		}
	}
}

func FuzzLeaf(f *testing.F) {
	for _, e := range []Event{{Time: time.UnixMilli(7), Code: DaemonStop}, largest(), {Time: time.UnixMilli(7), Code: AuditGap, Count: 9, Reason: "…"}} {
		b, err := encodeLeaf(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseLeaf(b)
		if err != nil {
			if e != (Event{}) {
				t.Fatal("an event beside an error")
			}
			return
		}
		if !e.Code.Registered() {
			return // read from a newer program, never written by this one
		}
		again, err := encodeLeaf(e)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("% x reads as %+v, which is % x, %v", b, e, again, err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	cp, origin, node := testNote(f)
	f.Add(cp.Note)
	f.Add(cosigned(f, cp.Note, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCheckpoint(b, origin, node)
		if err != nil {
			if c != nil {
				t.Fatal("a checkpoint beside an error")
			}
			return
		}
		// Nobody else can sign: what is accepted is the one checkpoint there is, and lines of others behind it.
		if c.Size != cp.Size || c.Root != cp.Root || !bytes.HasPrefix(b, cp.Note) || (c.Others == 0) != (len(b) == len(cp.Note)) {
			t.Fatalf("accepted %q", b)
		}
	})
}

func FuzzFrame(f *testing.F) {
	key := testKey(f, 1)
	f.Add(newFrame(key, testMesh, 0, nil, tlog.Hash{}))
	f.Add(newFrame(key, testMesh, 9, [][]byte{{1}, {2, 3}}, tlog.Hash{4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b, key.NodeID(), testMesh)
		if err != nil {
			if fr != nil {
				t.Fatal("a frame beside an error")
			}
			return
		}
		if !bytes.Equal(wire.MustMarshal(fr), b) {
			t.Fatalf("% x is not the one encoding", b)
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add(bundle([][]byte{{1}, {}, {2, 3}}), 3)
	f.Fuzz(func(t *testing.T, b []byte, want int) {
		want = max(0, min(want, tileWidth))
		entries, rest := splitBundle(b, want)
		if len(entries) > want || !bytes.Equal(append(bundle(entries), rest...), b) {
			t.Fatalf("% x splits into %d entries and % x", b, len(entries), rest)
		}
	})
}

// TestCorpora keeps committed seeds for every decoder.
func TestCorpora(t *testing.T) {
	for _, name := range []string{"FuzzLeaf", "FuzzCheckpoint", "FuzzFrame", "FuzzBundle"} {
		list, err := os.ReadDir(filepath.Join("testdata", "fuzz", name))
		if err != nil || len(list) < 3 {
			t.Errorf("%s: %d seeds, %v", name, len(list), err)
		}
		if !slices.IsSortedFunc(list, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) {
			t.Error("unsorted")
		}
	}
}
