package meshkey_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/sovereignmesh/meshkey"

// source is one Go file of the tree.
type source struct {
	name  string // slash-separated, from the root
	pkg   string // its folder
	test  bool
	lines int
	file  *ast.File
}

// imports returns the paths the file imports, without quotes, packages of this module without the module's path.
func (s *source) imports() []string {
	var out []string
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err) // the parser read it
		}
		if p == module {
			p = "."
		}
		out = append(out, strings.TrimPrefix(p, module+"/"))
	}
	return out
}

// selector finds what `name.Sel` refers to if name is an import of the file: path and Sel.
func (s *source) selector(e ast.Expr) (pkg, sel string) {
	x, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := x.X.(*ast.Ident)
	if !ok || id.Obj != nil {
		return "", ""
	}
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		if name == id.Name {
			return p, x.Sel.Name
		}
	}
	return "", ""
}

// otherModules are folders with a go.mod of their own: nothing of them is in the product.
var otherModules = []string{"tools", "bench/peers"}

// tree is every Go file of the repository, whatever system it is for. All tests look at the same one, and change nothing in it.
func tree(t *testing.T) (*token.FileSet, []*source) {
	t.Helper()
	f, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(f.files) < 20 {
		t.Fatalf("only %d Go files found: is this the root of the repository?", len(f.files))
	}
	return f.fset, f.files
}

// forest is what tree has parsed.
type forest struct {
	fset  *token.FileSet
	files []*source
}

var parsed = sync.OnceValues(func() (*forest, error) {
	f := &forest{fset: token.NewFileSet()}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if base != "." && (strings.HasPrefix(base, ".") || base == "testdata" || slices.Contains(otherModules, filepath.ToSlash(name))) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(f.fset, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		f.files = append(f.files, &source{
			name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(text, []byte("\n")), file: file,
		})
		return nil
	})
	return f, err
})

// product are the files of the table's packages that are not tests. Programs under examples are users of the module.
func product(all []*source) []*source {
	return slices.DeleteFunc(slices.Clone(all), func(s *source) bool { return s.test || strings.HasPrefix(s.pkg, "examples") })
}

func matches(pattern, imported string) bool {
	if p, ok := strings.CutSuffix(pattern, "/"); ok {
		return strings.HasPrefix(imported, pattern) && imported != p
	}
	return imported == pattern
}

func TestImportTable(t *testing.T) {
	_, all := tree(t)
	for _, s := range product(all) {
		l, ok := layers[s.pkg]
		if !ok {
			t.Errorf("%s: package %s is not in the import table", s.name, s.pkg)
			continue
		}
		for _, imp := range s.imports() {
			other, ours := layers[imp]
			if !ours {
				if strings.HasPrefix(imp, "internal/") || imp == "." {
					t.Errorf("%s imports %s, which is not in the import table", s.name, imp)
				}
				continue
			}
			_, side := sideways[[2]string{s.pkg, imp}]
			listed := slices.Contains(l.imports, imp) || slices.Equal(l.imports, lower)
			if !side && (!listed || other.level >= l.level) {
				t.Errorf("%s (level %d) imports %s (level %d): %s", s.name, l.level, imp, other.level, l.why)
			}
		}
	}
}

// The table itself goes only down, and says nothing of packages that cannot exist.
func TestImportTableIsSound(t *testing.T) {
	for pkg, l := range layers {
		if l.why == "" {
			t.Errorf("%s has no reason", pkg)
		}
		for _, imp := range l.imports {
			if imp == lower[0] {
				continue
			}
			if other, ok := layers[imp]; !ok || (other.level >= l.level && sideways[[2]string{pkg, imp}] == "") {
				t.Errorf("table lets %s import %s, which is not below it", pkg, imp)
			}
		}
	}
	for pair, why := range sideways {
		if a, b := layers[pair[0]], layers[pair[1]]; a.level != b.level || why == "" {
			t.Errorf("%s and %s are not on one level, or without a reason", pair[0], pair[1])
		}
		if sideways[[2]string{pair[1], pair[0]}] != "" {
			t.Errorf("%s and %s import each other", pair[0], pair[1])
		}
	}
}

func TestBans(t *testing.T) {
	_, all := tree(t)
	for _, s := range product(all) {
		for _, imp := range s.imports() {
			for _, b := range bans {
				if slices.Contains(b.pkgs, s.pkg) && matches(b.pattern, imp) {
					t.Errorf("%s imports %s: %s", s.name, imp, b.why)
				}
			}
			for _, e := range everywhere {
				if matches(e.pattern, imp) && !slices.Contains(e.only, s.pkg) {
					t.Errorf("%s imports %s: %s", s.name, imp, e.why)
				}
			}
		}
	}
}

// TestDependencyImports holds docs/dependencies.md: only the packages named there import a module.
func TestDependencyImports(t *testing.T) {
	_, all := tree(t)
	deps := dependencies(t)
	for _, s := range all {
		for _, imp := range s.imports() {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") || strings.HasPrefix(imp, ".") {
				continue
			}
			d := moduleOf(deps, imp)
			switch {
			case d == nil:
				t.Errorf("%s imports %s: its module is not in docs/dependencies.md", s.name, imp)
			case s.test || d.tests:
				if d.tests && !s.test {
					t.Errorf("%s imports %s, which is for tests only", s.name, imp)
				}
			case !slices.Contains(d.importers, s.pkg):
				t.Errorf("%s imports %s; docs/dependencies.md allows it to %v", s.name, imp, d.importers)
			}
		}
	}
}

func TestPackageDocs(t *testing.T) {
	_, all := tree(t)
	docs := make(map[string][]string)
	count := make(map[string]int)
	for _, s := range product(all) {
		count[s.pkg]++
		if s.file.Doc != nil {
			docs[s.pkg] = append(docs[s.pkg], s.name)
		} else if docs[s.pkg] == nil {
			docs[s.pkg] = []string{}
		}
		if s.file.Doc != nil {
			want := "Package " + s.file.Name.Name + " "
			if s.file.Name.Name == "main" {
				want = "Command " + path.Base(s.pkg) + " "
			}
			if !strings.HasPrefix(s.file.Doc.Text(), want) {
				t.Errorf("%s: package comment does not begin with %q", s.name, want)
			}
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments, want 1: %v", pkg, len(files), files)
			continue
		}
		if base := path.Base(files[0]); base != "doc.go" && base != "main.go" && count[pkg] > 1 {
			t.Errorf("package comment of %s stands in %s, want doc.go", pkg, base)
		}
	}
}

func TestFileCaps(t *testing.T) {
	_, all := tree(t)
	for _, s := range all {
		switch {
		case s.lines > 600:
			t.Errorf("%s has %d lines, at most 600 are allowed", s.name, s.lines)
		case s.lines > 400 && !s.test && longFiles[s.name] == "":
			t.Errorf("%s has %d lines, more than 400: split it, or give the reason in longFiles", s.name, s.lines)
		}
	}
	for name := range longFiles {
		i := slices.IndexFunc(all, func(s *source) bool { return s.name == name })
		if i < 0 || all[i].lines <= 400 {
			t.Errorf("%s is in longFiles and is not long", name)
		}
	}
}

// Domain separation is one reviewed list: no text that begins a signature input, KDF info or prologue stands outside keys/label.go.
func TestLabelsOnlyInRegistry(t *testing.T) {
	fset, all := tree(t)
	for _, s := range product(all) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && s.name != "keys/label.go" {
				if text, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(text, "meshkey/1") {
					t.Errorf("%s: %s belongs to keys/label.go", fset.Position(lit.Pos()), lit.Value)
				}
			}
			return true
		})
	}
}

// forbidden are functions that reach out of the process or into its global state.
var forbidden = map[string][]string{
	"os":            {"Exit", "Getenv", "LookupEnv", "Environ", "Setenv", "Unsetenv", "ExpandEnv", "Clearenv", "Stdin", "Stdout", "Stderr", "Args"},
	"fmt":           {"Print", "Printf", "Println"},
	"log/slog":      {"Default", "SetDefault", "Debug", "Info", "Warn", "Error", "Log", "DebugContext", "InfoContext", "WarnContext", "ErrorContext"},
	"syscall":       {"Getenv", "Exit"},
	"net/http":      {"DefaultClient", "DefaultServeMux", "DefaultTransport", "Handle", "HandleFunc", "Get", "Post", "ListenAndServe"},
	"runtime":       {"Goexit"},
	"os/signal":     {"Notify", "NotifyContext"},
	"runtime/debug": {"SetGCPercent", "SetMemoryLimit"},
}

// exempt may use them: the commands, and the test harness that is told by its environment where it runs.
var exempt = []string{"cmd/meshkey", "bench", "internal/netns", "internal/testrun", "e2e"}

func TestOnlyTheCommandTouchesTheProcess(t *testing.T) {
	fset, all := tree(t)
	for _, s := range product(all) {
		if slices.Contains(exempt, s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if pkg, sel := s.selector(n); slices.Contains(forbidden[pkg], sel) {
					t.Errorf("%s: %s.%s is the command's", fset.Position(n.Pos()), pkg, sel)
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && id.Obj == nil && (id.Name == "print" || id.Name == "println") {
					t.Errorf("%s: %s", fset.Position(n.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

// The deterministic core has no clock, no goroutine and no randomness of its own.
func TestCoreIsDeterministic(t *testing.T) {
	fset, all := tree(t)
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	for _, s := range product(all) {
		if s.pkg != "mesh/core" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: concurrency in the core", fset.Position(n.Pos()))
			case *ast.CallExpr:
				pkg, sel := s.selector(n.Fun)
				if pkg == "time" && slices.Contains(clock, sel) {
					t.Errorf("%s: time.%s in the core", fset.Position(n.Pos()), sel)
				}
				if pkg == "math/rand/v2" && !strings.HasPrefix(sel, "New") {
					t.Errorf("%s: global randomness in the core", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// No init functions, and no function writes a package-level variable.
func TestNoGlobalState(t *testing.T) {
	fset, all := tree(t)
	globals := make(map[string]map[string]bool)
	for _, s := range product(all) {
		for _, d := range s.file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, spec := range g.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if globals[s.pkg] == nil {
							globals[s.pkg] = make(map[string]bool)
						}
						globals[s.pkg][name.Name] = true
					}
				}
			}
		}
	}
	for _, s := range product(all) {
		check := func(e ast.Expr) {
			// m[k] = v and p.f = v write the variable m or p.
			for {
				switch x := e.(type) {
				case *ast.IndexExpr:
					e = x.X
					continue
				case *ast.SelectorExpr:
					e = x.X
					continue
				case *ast.ParenExpr:
					e = x.X
					continue
				}
				break
			}
			id, ok := e.(*ast.Ident)
			if !ok || id.Name == "_" || !globals[s.pkg][id.Name] {
				return
			}
			// The parser resolves names within a file; an unresolved one is a global of another file.
			if id.Obj != nil {
				if spec, ok := id.Obj.Decl.(*ast.ValueSpec); !ok || !slices.ContainsFunc(s.file.Decls, func(d ast.Decl) bool {
					g, ok := d.(*ast.GenDecl)
					return ok && slices.Contains(g.Specs, ast.Spec(spec))
				}) {
					return
				}
			}
			t.Errorf("%s: package-level variable %s is changed", fset.Position(id.Pos()), id.Name)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: init function", fset.Position(n.Pos()))
				}
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						check(e)
					}
				}
			case *ast.IncDecStmt:
				check(n.X)
			}
			return true
		})
	}
}

// Tests wait for a state, with a deadline, or run in virtual time.
func TestNoSleepInTests(t *testing.T) {
	fset, all := tree(t)
	for _, s := range all {
		if !s.test || slices.Contains(s.imports(), "testing/synctest") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				if pkg, sel := s.selector(c.Fun); pkg == "time" && sel == "Sleep" {
					t.Errorf("%s: time.Sleep in a test", fset.Position(c.Pos()))
				}
			}
			return true
		})
	}
}
