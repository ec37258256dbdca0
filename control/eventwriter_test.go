package control

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Events keep their order; an opening comes with the next event, or by itself after eventDelay, and nothing after the end.
func TestEventWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		o := &eventWriter{w: rec, rc: http.NewResponseController(noDeadline{rec}), stop: func() { t.Error("stopped") }}
		told := func() (kinds string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			for line := range strings.Lines(rec.Body.String()) {
				var ev ConnectEvent
				if err := json.Unmarshal([]byte(line), &ev); err != nil {
					t.Fatal(err)
				}
				kinds += ev.Event + ev.From + " "
			}
			return kinds
		}
		want := func(kinds string) {
			t.Helper()
			if got := told(); got != kinds {
				t.Fatalf("%q, want %q", got, kinds)
			}
		}
		o.later(&ConnectEvent{Event: "open", From: "1"})
		o.later(&ConnectEvent{Event: "open", From: "2"})
		want("")
		o.send(&ConnectEvent{Event: "close", From: "1"})
		want("open1 open2 close1 ")
		o.later(&ConnectEvent{Event: "open", From: "3"})
		time.Sleep(eventDelay)
		synctest.Wait()
		want("open1 open2 close1 open3 ")
		o.later(&ConnectEvent{Event: "open", From: "4"})
		o.end()
		want("open1 open2 close1 open3 open4 ")
		o.later(&ConnectEvent{Event: "open", From: "5"})
		o.send(&ConnectEvent{Event: "close", From: "5"})
		time.Sleep(eventDelay)
		synctest.Wait()
		want("open1 open2 close1 open3 open4 ")
	})
}

// noDeadline takes deadlines, which a recorder does not.
type noDeadline struct{ *httptest.ResponseRecorder }

func (noDeadline) SetWriteDeadline(time.Time) error { return nil }
