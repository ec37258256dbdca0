package daemon_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
)

// text reads the metrics as a scraper does.
func (h *host) text() string {
	h.t.Helper()
	c := http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", h.socket()) }, DisableKeepAlives: true,
	}}
	resp, err := c.Get("http://meshkey/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		h.t.Fatal(resp.Status, resp.Header, err)
	}
	return string(b)
}

// The figures are those of the node: who ends when by the log, sessions, refusals, the audit log and the trust view.
func TestMetrics(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1")
	id := others[0].id()
	eventually(t, "figures of a node with a peer", patience, func() bool {
		text := nas.text()
		for _, want := range []string{
			`meshkey_info\{version="[^"]*",mesh="homelab",node="nas"\} 1`, `meshkey_certificate_not_after_timestamp_seconds\{node="gpu1",id="` + id + `"\} \d{10}`,
			`meshkey_certificates_expiring\{days="7"\} 0`, `meshkey_peers\{state="up"\} 1`, `meshkey_sessions\{state="full"\} 1`, `meshkey_streams 0`,
			`meshkey_members 2`, `meshkey_audit_degraded 0`, `meshkey_audit_entries [1-9]\d*`, `meshkey_trust_root_version 1`, `meshkey_trust_unwritten 0`,
			`meshkey_beacons_dropped_total\{reason="sealed"\} \d+`, `meshkey_handshakes_total \d+`, `meshkey_uptime_seconds [\d.]+`,
		} {
			if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(text) {
				return false
			}
		}
		return true
	})
	c, err := net.Dial("tcp", listening(t, nas))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(append([]byte{1}, make([]byte, 1234)...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a refused handshake is counted by its reason", patience, func() bool {
		return regexp.MustCompile(`(?m)^meshkey_handshakes_refused_total\{reason="gate"\} [1-9]`).MatchString(nas.text())
	})
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "gpu1"}); err != nil {
		t.Fatal(err)
	}
	if text := nas.text(); !strings.Contains(text, "\nmeshkey_revoked 1\n") || strings.Contains(text, `node="gpu1"`) {
		t.Fatal(text)
	}
}

func listening(t *testing.T, h *host) string {
	t.Helper()
	s, err := h.client.Status(t.Context())
	if err != nil || len(s.Listen) == 0 {
		t.Fatal(s, err)
	}
	return s.Listen[0]
}

// checkTraffic looks for the five bytes that went to and fro, while their stream is open.
func checkTraffic(t *testing.T, h *host, peer, service string) {
	t.Helper()
	var text string
	eventually(t, "the stream's bytes by peer and service", patience, func() bool {
		text = h.text()
		for _, want := range []string{
			`meshkey_peer_bytes_total\{node="` + peer + `",id="[^"]+",direction="in"\} 5`, `meshkey_peer_bytes_total\{node="` + peer + `",id="[^"]+",direction="out"\} 5`,
			`meshkey_peer_streams_total\{node="` + peer + `",id="[^"]+"\} 1`, `meshkey_peer_sessions_total\{node="` + peer + `",id="[^"]+"\} [1-9]`,
			`meshkey_peer_rekeys_total\{node="` + peer + `",id="[^"]+"\} \d+`, `meshkey_service_streams_total\{service="` + service + `"\} 1`,
			`meshkey_service_bytes_total\{service="` + service + `",direction="in"\} 5`, `meshkey_service_bytes_total\{service="` + service + `",direction="out"\} 5`,
		} {
			if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(text) {
				return false
			}
		}
		return true
	})
}
