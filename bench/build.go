package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// plan is what was built outside, where the Go tool can reach its modules, for the rig inside.
type plan struct {
	Dir     string `json:"dir"`
	Commit  string `json:"commit"`
	Version string `json:"go"`
	Size    int64  `json:"size"` // of the meshkey binary, stripped
	// Lacks says for a program why it is not there.
	Lacks map[string]string `json:"lacks"`
}

// program is the path of something built.
func (p *plan) program(name string) string { return filepath.Join(p.Dir, "bin", name) }

func (p *plan) save() error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.Dir, "plan.json"), b, 0o600)
}

func (p *plan) load(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err != nil {
		return fmt.Errorf("what was built outside: %w", err)
	}
	return json.Unmarshal(b, p)
}

// peerPrograms are what bench/peers builds, each with its package there.
var peerPrograms = map[string]string{
	"libp2p":      "./libp2p",
	"wireguard":   "./wireguard",
	"nebula":      "github.com/slackhq/nebula/cmd/nebula",
	"nebula-cert": "github.com/slackhq/nebula/cmd/nebula-cert",
}

// build makes the programs. Those of the product must build; a peer that does not is not measured.
func build(ctx context.Context, o *options, dir string, words io.Writer) error {
	p := &plan{Dir: dir, Version: runtime.Version(), Lacks: make(map[string]string)}
	root, err := goOutput(ctx, "", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	if root == "" || root == "/dev/null" {
		return fmt.Errorf("not inside the module: run it from the root of a clone")
	}
	p.Commit = commit(root)
	began := time.Now()
	if _, err := goOutput(ctx, root, "build", "-trimpath", "-ldflags=-s -w", "-o", p.program("meshkey"), "./cmd/meshkey"); err != nil {
		return err
	}
	st, err := os.Stat(p.program("meshkey"))
	if err != nil {
		return err
	}
	p.Size = st.Size()
	for name, pkg := range packageTests {
		if _, err := goOutput(ctx, root, "test", "-c", "-o", p.program(name), pkg); err != nil {
			p.Lacks[name] = reason(err)
		}
	}
	for name, pkg := range peerPrograms {
		if contestant, _, _ := strings.Cut(name, "-"); !o.wants(contestant) {
			continue
		}
		if _, err := goOutput(ctx, filepath.Join(root, "bench", "peers"), "build", "-trimpath", "-o", p.program(name), pkg); err != nil {
			p.Lacks[name] = reason(err)
			fmt.Fprintf(words, "%s: %v\n", name, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(words, "built in %v\n", time.Since(began).Round(time.Second))
	return p.save()
}

// reason is the first line of an error.
func reason(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return "cannot be built: " + line
}

func goOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(words.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// commit names what was measured, as far as it is known.
func commit(root string) string {
	out := func(args ...string) (string, error) {
		b, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
		return strings.TrimSpace(string(b)), err
	}
	c, err := out("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "unknown"
	}
	if changed, err := out("status", "--porcelain", "--untracked-files=no"); err != nil || changed != "" {
		c += " with changes"
	}
	return c
}
