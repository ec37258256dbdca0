package daemon

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
)

// others is the label of what is counted for many together.
const others = "(others)"

// trafficMetrics are what streams carried, by peer, for those that carried most, and by service of this node.
func (d *Daemon) trafficMetrics(p page) {
	peers, services := d.node.Traffic()
	ids := slices.SortedFunc(maps.Keys(peers), func(a, b keys.NodeID) int {
		x, y := peers[a], peers[b]
		return cmp.Or(cmp.Compare(y.In+y.Out, x.In+x.Out), cmp.Compare(y.Sessions, x.Sessions), slices.Compare(a[:], b[:]))
	})
	var bytes, streams, sessions, rekeys []control.Sample
	for _, id := range ids[:min(len(ids), maxMetricNodes)] {
		t := peers[id]
		labels := []control.Label{{Name: "node", Value: others}, {Name: "id", Value: ""}}
		if id != (keys.NodeID{}) {
			labels[0].Value, labels[1].Value = d.word(id), id.Compact()
		}
		bytes = append(bytes, directions(labels, t.Traffic)...)
		streams = append(streams, control.Sample{Labels: labels, Value: float64(t.Streams)})
		sessions = append(sessions, control.Sample{Labels: labels, Value: float64(t.Sessions)})
		rekeys = append(rekeys, control.Sample{Labels: labels, Value: float64(t.Rekeys)})
	}
	p.add("peer_bytes_total", "counter", "Bytes of applications that streams carried, by the peer at the other end: in is what came from it.", bytes...)
	p.add("peer_streams_total", "counter", "Streams begun with a peer, either way.", streams...)
	p.add("peer_sessions_total", "counter", "Sessions begun with a peer: handshakes of either side.", sessions...)
	p.add("peer_rekeys_total", "counter", "New keys of sessions with a peer, in band.", rekeys...)

	bytes, streams = nil, nil
	for _, name := range slices.Sorted(maps.Keys(services)) {
		labels := []control.Label{{Name: "service", Value: cmp.Or(name, others)}}
		bytes = append(bytes, directions(labels, services[name])...)
		streams = append(streams, control.Sample{Labels: labels, Value: float64(services[name].Streams)})
	}
	p.add("service_bytes_total", "counter", "Bytes that peers sent to (in) and got from (out) a service of this node.", bytes...)
	p.add("service_streams_total", "counter", "Streams that peers began with a service of this node.", streams...)
}

func directions(labels []control.Label, t mesh.Traffic) []control.Sample {
	one := func(way string, n uint64) control.Sample {
		return control.Sample{Labels: append(slices.Clone(labels), control.Label{Name: "direction", Value: way}), Value: float64(n)}
	}
	return []control.Sample{one("in", t.In), one("out", t.Out)}
}
