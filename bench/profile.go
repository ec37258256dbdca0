package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// profile takes profiles of both daemons of a meshkey contestant if the caller asked for them, meanwhile; the function returned waits for
// their end.
func (r *rig) profile(ctx context.Context, o *options, c contestant, label string, d time.Duration) (wait func() error) {
	m, ok := c.(*meshkey)
	if o.prof == "" || !ok {
		return func() error { return nil }
	}
	var wg sync.WaitGroup
	var errs [2]error
	for i, n := range []*node{m.client, m.server} {
		wg.Go(func() { errs[i] = n.profile(ctx, o.prof, label, max(d, time.Second)) })
	}
	return func() error {
		wg.Wait()
		return errors.Join(errs[:]...)
	}
}

// profile writes what the daemon's processor time goes to in d, and where its memory came from.
func (n *node) profile(ctx context.Context, dir, label string, d time.Duration) error {
	for _, kind := range []string{"profile", "trace", "heap"} {
		f, err := os.Create(filepath.Join(dir, filepath.Base(n.dir)+"-"+label+"."+kind))
		if err != nil {
			return err
		}
		err = n.client.Profile(ctx, kind, d, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
