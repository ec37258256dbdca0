package mesh

import "context"

// linksEnded waits until every session has ended, so that the CLOSE just written is not overtaken by a reset.
func (n *Node) linksEnded(late context.Context) {
	for {
		n.mu.Lock()
		left, changed := len(n.links), n.changed
		n.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-changed:
		case <-late.Done():
			return
		}
	}
}

// endLinks cuts what is left.
func (n *Node) endLinks() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.ctl.Reset()
	}
	for _, cancel := range n.dials {
		cancel()
	}
}
