package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/forward"
)

// Service is one service this node offers.
type Service struct {
	Name   string
	Target forward.Target
	HTTP   bool
	Allow  []string // what was asked for at expose; grants decide
}

// serviceVersion is the version of the file.
const serviceVersion = 1

const servicesDir = "services.d"

// serviceFile is the file as it is written.
type serviceFile struct {
	Version int64    `toml:"version"`
	Target  string   `toml:"target"`
	HTTP    bool     `toml:"http"`
	Allow   []string `toml:"allow"`
}

// ParseService reads the content of services.d/NAME.toml.
func ParseService(name string, data []byte) (Service, error) {
	file := path.Join(servicesDir, name+".toml")
	fail := func(format string, args ...any) (Service, error) {
		return Service{}, &Error{File: file, Text: fmt.Sprintf(format, args...)}
	}
	if err := identity.CheckName(name); err != nil {
		return fail("the file's name is no service: %v", err)
	}
	if len(data) > maxServiceFile {
		return fail("longer than %d bytes", maxServiceFile)
	}
	var f serviceFile
	if err := decode(file, data, &f, serviceKeys(&f)); err != nil {
		return Service{}, err
	}
	if f.Version != serviceVersion {
		return fail("format %d; this program reads %d", f.Version, serviceVersion)
	}
	t, err := forward.ParseTarget(f.Target)
	if err != nil {
		return fail("target: %v", err)
	}
	if err := checkAllow(f.Allow); err != nil {
		return fail("%v", err)
	}
	return Service{Name: name, Target: t, HTTP: f.HTTP, Allow: f.Allow}, nil
}

func checkAllow(allow []string) error {
	return checkList("allow", allow, maxAllow, func(s string) error {
		if s == "" || len(s) > maxSubject || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == 0x7f || r == 0xfffd }) {
			return errors.New("not a subject")
		}
		return nil
	})
}

// Encode returns the content of the service's file.
func (s Service) Encode() []byte {
	var b strings.Builder
	b.WriteString("# Written by meshkey expose.\n")
	fmt.Fprintf(&b, "version = %d\ntarget = %s\n", serviceVersion, quote(s.Target.String()))
	if s.HTTP {
		b.WriteString("http = true\n")
	}
	if len(s.Allow) > 0 {
		var list []string
		for _, a := range s.Allow {
			list = append(list, quote(a))
		}
		fmt.Fprintf(&b, "allow = [%s]\n", strings.Join(list, ", "))
	}
	return []byte(b.String())
}

// quote writes a TOML basic string. Control characters, which a target or a subject never has, would make it another string.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// check is what Save accepts: only what Parse will read again.
func (s Service) check() error {
	again, err := ParseService(s.Name, s.Encode())
	if err != nil {
		return err
	}
	if !again.Equal(s) {
		return &Error{File: path.Join(servicesDir, s.Name+".toml"), Text: "not a service that can be kept"}
	}
	return nil
}

// Equal reports whether two services are the same.
func (s Service) Equal(o Service) bool {
	return s.Name == o.Name && s.Target == o.Target && s.HTTP == o.HTTP && slices.Equal(s.Allow, o.Allow)
}

// LoadServices reads services.d of the state directory fsys, sorted by name, and what is wrong in it, file by file. Only if the
// folder itself cannot be read is the error set.
func LoadServices(fsys durable.FS) (services []Service, bad []error, err error) {
	entries, err := fsys.ReadDir(servicesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if len(entries) > maxServiceFiles {
		return nil, nil, fmt.Errorf("%s holds %d files, at most %d", servicesDir, len(entries), maxServiceFiles)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".toml")
		if !ok || strings.HasPrefix(name, ".") {
			continue // an editor's copy, or a temporary file of a writer that died
		}
		file := path.Join(servicesDir, e.Name())
		if len(services) == MaxServices {
			bad = append(bad, &Error{File: file, Text: "more than " + strconv.Itoa(MaxServices) + " services"})
			continue
		}
		data, err := durable.ReadFile(fsys, file, maxServiceFile)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		s, err := ParseService(name, data)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		services = append(services, s)
	}
	return services, bad, nil
}

// SaveService writes a service's file durably, in place of an older one.
func SaveService(fsys durable.FS, s Service) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := durable.MkdirAll(fsys, servicesDir); err != nil {
		return err
	}
	return durable.WriteFile(fsys, path.Join(servicesDir, s.Name+".toml"), s.Encode())
}

// RemoveService removes a service's file durably. A service that is not there is [fs.ErrNotExist].
func RemoveService(fsys durable.FS, name string) error {
	if err := identity.CheckName(name); err != nil {
		return err
	}
	if err := fsys.Remove(path.Join(servicesDir, name+".toml")); err != nil {
		return err
	}
	return fsys.SyncDir(servicesDir)
}
