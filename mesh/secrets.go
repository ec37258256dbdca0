package mesh

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

var (
	// errGeneration: the secret is of another generation than the newest in the log.
	errGeneration = errors.New("a group secret of another generation")
	// errCommitment: the secret is not the one the log commits to.
	errCommitment = errors.New("the log commits to another group secret")
)

// Secrets are the generations of the group secret this node holds. The newest is used, older ones are accepted.
type Secrets struct {
	mesh keys.MeshID
	// save makes a new generation durable before it is used.
	save func(keys.GroupSecret) error

	mu      sync.Mutex
	secrets []keys.GroupSecret // newest first
	cached  []handshake.Gate
	beacons *beacon.Keys
}

// NewSecrets starts with the secrets read from disk, at least one. save makes a newly learnt one durable.
func NewSecrets(mesh keys.MeshID, save func(keys.GroupSecret) error, held ...keys.GroupSecret) (*Secrets, error) {
	if len(held) == 0 {
		return nil, errors.New("no group secret")
	}
	s := &Secrets{mesh: mesh, save: save, secrets: slices.Clone(held)}
	return s, s.rebuildLocked()
}

func (s *Secrets) rebuildLocked() error {
	slices.SortFunc(s.secrets, func(a, b keys.GroupSecret) int {
		switch {
		case a.Generation > b.Generation:
			return -1
		case a.Generation < b.Generation:
			return 1
		}
		return 0
	})
	s.cached = nil
	var bs []beacon.GenerationKey
	for i, g := range s.secrets {
		s.cached = append(s.cached, handshake.Gate{Generation: g.Generation, PSK: g.Gate(s.mesh), Old: i > 1})
		bs = append(bs, beacon.GenerationKey{Generation: g.Generation, Key: g.BeaconKey(s.mesh)})
	}
	var err error
	s.beacons, err = beacon.NewKeys(bs...)
	return err
}

// Newest returns the newest generation's secret.
func (s *Secrets) Newest() keys.GroupSecret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets[0]
}

func (s *Secrets) get(generation uint64) (keys.GroupSecret, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.secrets {
		if g.Generation == generation {
			return g, true
		}
	}
	return keys.GroupSecret{}, false
}

func (s *Secrets) gates() []handshake.Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cached
}

// gate is the key to knock with at a peer whose newest generation is known to be gen, 0 if it is not known: a peer that was away when
// the secret changed has only the older one, and hears nothing that is sealed with the new.
func (s *Secrets) gate(gen uint64) keys.PSK {
	all := s.gates()
	for _, g := range all {
		if g.Generation == gen {
			return g.PSK
		}
	}
	return all[0].PSK
}

func (s *Secrets) beaconKeys() *beacon.Keys {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beacons
}

// Add takes a secret the log commits to: first to disk, then into use.
func (s *Secrets) Add(st *trust.State, g keys.GroupSecret) error {
	gen, commit := st.GroupCommit()
	if g.Generation != gen {
		return fmt.Errorf("%w: %d, the log is at %d", errGeneration, g.Generation, gen)
	}
	if g.Commitment(s.mesh) != commit {
		return fmt.Errorf("%w: generation %d", errCommitment, g.Generation)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.secrets, func(h keys.GroupSecret) bool { return h.Generation >= g.Generation }) {
		return nil
	}
	if err := s.save(g); err != nil {
		return err
	}
	s.secrets = append(s.secrets, g)
	return s.rebuildLocked()
}
