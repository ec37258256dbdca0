package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/forward"
)

func target(t *testing.T, s string) forward.Target {
	t.Helper()
	tg, err := forward.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

func TestServiceFileReadsBack(t *testing.T) {
	for _, s := range []Service{
		{Name: "ollama", Target: target(t, "11434")},
		{Name: "db-1", Target: target(t, "unix:/run/postgres/.s.PGSQL.5432"), Allow: []string{"tag:dba", "any"}},
		{Name: "web", Target: target(t, "[::1]:80"), HTTP: true, Allow: []string{"7QK4-M2XD-C · 9RTB-L5VA-K"}},
		{Name: "odd", Target: target(t, `unix:/a "b\c'é`)},
	} {
		got, err := ParseService(s.Name, s.Encode())
		if err != nil || !got.Equal(s) {
			t.Errorf("%+v became %+v, %v\n%s", s, got, err, s.Encode())
		}
	}
}

func TestServiceFileIsStrict(t *testing.T) {
	good := "version = 1\ntarget = \"127.0.0.1:80\"\n"
	if _, err := ParseService("web", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ service, data string }{
		"no version":      {"web", "target = \"80\"\n"},
		"later version":   {"web", "version = 2\ntarget = \"80\"\n"},
		"no target":       {"web", "version = 1\n"},
		"bad target":      {"web", "version = 1\ntarget = \"0.0.0.0:80\"\n"},
		"unknown key":     {"web", good + "htttp = true\n"},
		"bad name":        {"Web", good},
		"name with path":  {"../web", good},
		"empty subject":   {"web", good + "allow = [\"\"]\n"},
		"quoted subject":  {"web", good + "allow = ['\"']\n"},
		"long subject":    {"web", good + "allow = [\"" + strings.Repeat("x", maxSubject+1) + "\"]\n"},
		"subject twice":   {"web", good + "allow = [\"any\", \"any\"]\n"},
		"oversized":       {"web", good + strings.Repeat("#", maxServiceFile)},
		"torn":            {"web", "version = 1\ntarget = \"127.0"},
		"another's table": {"web", good + "[network]\n"},
	} {
		s, err := ParseService(c.service, []byte(c.data))
		if err == nil || !s.Equal(Service{}) {
			t.Errorf("%s: accepted as %+v", name, s)
		}
	}
}

func TestServicesSurviveAPowerLoss(t *testing.T) {
	mem := durable.NewMem()
	a := Service{Name: "a", Target: target(t, "80")}
	b := Service{Name: "b", Target: target(t, "81"), HTTP: true, Allow: []string{"any"}}
	for _, s := range []Service{b, a} {
		if err := SaveService(mem, s); err != nil {
			t.Fatal(err)
		}
	}
	a.Target = target(t, "82")
	if err := SaveService(mem, a); err != nil {
		t.Fatal(err)
	}
	mem.Crash()
	got, bad, err := LoadServices(mem)
	if err != nil || len(bad) != 0 || len(got) != 2 || !got[0].Equal(a) || !got[1].Equal(b) {
		t.Fatalf("%+v, %v, %v", got, bad, err)
	}
	if err := RemoveService(mem, "a"); err != nil {
		t.Fatal(err)
	}
	mem.Crash()
	if got, _, _ := LoadServices(mem); len(got) != 1 || got[0].Name != "b" {
		t.Fatalf("%+v", got)
	}
	if err := RemoveService(mem, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("removed twice: %v", err)
	}
	if err := RemoveService(mem, "../../etc/passwd"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a path as a name: %v", err)
	}
}

func TestOnlyWhatReadsBackIsSaved(t *testing.T) {
	mem := durable.NewMem()
	for _, s := range []Service{
		{Name: "web"},
		{Name: "Web", Target: target(t, "80")},
		{Name: "web", Target: target(t, "80"), Allow: []string{"a\nb"}},
		{Name: "web", Target: target(t, "80"), Allow: make([]string, maxAllow+1)},
	} {
		if err := SaveService(mem, s); err == nil {
			t.Errorf("%+v was saved", s)
		}
	}
	if got, _, err := LoadServices(mem); err != nil || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestOneBadFileDoesNotTakeTheOthers(t *testing.T) {
	mem := durable.NewMem()
	if err := SaveService(mem, Service{Name: "good", Target: target(t, "80")}); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"bad.toml": "version = 1\ntarget = 7\n", "note.txt": "mine", ".hidden.toml": "x", "good.toml.tmp~0": "x"} {
		if err := durable.WriteFile(mem, path.Join(servicesDir, name), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	got, bad, err := LoadServices(mem)
	if err != nil || len(got) != 1 || len(bad) != 1 || !strings.Contains(bad[0].Error(), "services.d/bad.toml:2:") {
		t.Fatalf("%+v, %v, %v", got, bad, err)
	}
}

func TestNumberOfServicesIsBounded(t *testing.T) {
	mem := durable.NewMem()
	for i := range MaxServices + 2 {
		if err := SaveService(mem, Service{Name: fmt.Sprintf("s%d", i), Target: target(t, "80")}); err != nil {
			t.Fatal(err)
		}
	}
	got, bad, err := LoadServices(mem)
	if err != nil || len(got) != MaxServices || len(bad) != 2 {
		t.Fatalf("%d services, %v, %v", len(got), bad, err)
	}
	for i := range maxServiceFiles {
		if err := durable.WriteFile(mem, path.Join(servicesDir, fmt.Sprintf("x%d", i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := LoadServices(mem); err == nil {
		t.Fatal("an endless folder was read")
	}
}

func FuzzService(f *testing.F) {
	f.Add("web", []byte("version = 1\ntarget = \"127.0.0.1:80\"\n"))
	f.Add("db", []byte("version = 1\ntarget = 'unix:/a'\nhttp = true\nallow = [\"any\", \"tag:x\"]\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		s, err := ParseService(name, data)
		if err != nil {
			if !s.Equal(Service{}) {
				t.Fatal("an error and a service")
			}
			return
		}
		again, err := ParseService(name, s.Encode())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%+v -> %s -> %+v, %v", s, s.Encode(), again, err)
		}
	})
}
