package audit

import "testing"

func TestFilterForAServiceOfThisNode(t *testing.T) {
	f := &Filter{Targets: []string{"ID/web", "gpu1/web"}, Service: "web"}
	for _, c := range []struct {
		code   Code
		target string
		want   bool
	}{
		{StreamOpen, "web", true},
		{StreamDeny, "web", true},
		{ServiceExpose, "web", true},
		{StreamClose, "ID/web", true}, // of an earlier life of the name
		{GrantAdd, "gpu1/web", true},
		{StreamOpen, "web2", false},
		{StreamClose, "nas/web", false},
		{InviteCreate, "web", false}, // a machine of that name
		{DaemonStart, "web", false},
	} {
		if got := f.Match(&Record{Event: Event{Code: c.code, Target: c.target}}); got != c.want {
			t.Errorf("%s %s: %v", c.code, c.target, got)
		}
	}
	all := &Filter{Service: "*"}
	if !all.Match(&Record{Event: Event{Code: StreamOpen, Target: "web"}}) || all.Match(&Record{Event: Event{Code: StreamClose, Target: "ID/web"}}) {
		t.Error("every service of this node is not what it finds")
	}
}
