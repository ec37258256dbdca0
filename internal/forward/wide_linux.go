package forward

import "os"

// ListensWide reports whether something on this machine listens on port on every address, so that the network reaches it past
// the mesh. known is false where the system does not tell.
func ListensWide(port uint16) (found, known bool) {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		w, err := wide(f, port)
		f.Close()
		known = known || err == nil
		found = found || w
	}
	return found, known
}
