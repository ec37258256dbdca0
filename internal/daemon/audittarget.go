package daemon

import "strings"

// ownService is the service of a target NODE/SERVICE where NODE is whose log is asked: its records name the service alone. origin is the
// log's, which ends in its key's id.
func ownService(origin string, targets []string) string {
	_, self, ok := strings.Cut(origin, "/audit/")
	for _, t := range targets {
		if svc, own := strings.CutPrefix(t, self+"/"); ok && own {
			return svc
		}
	}
	return ""
}
