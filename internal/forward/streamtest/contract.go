// Package streamtest holds the contract of forward.Stream as a test, for every implementation to run.
package streamtest

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/forward"
)

// limit is how long an operation may take that must not block.
const limit = 5 * time.Second

// Contract runs the contract. pair returns the two ends of one fresh stream, in both roles.
func Contract(t *testing.T, pair func(t *testing.T) (a, b forward.Stream)) {
	t.Run("EndIsEOF", func(t *testing.T) {
		a, b := pair(t)
		defer a.Close()
		defer b.Close()
		mustWrite(t, a, "hello")
		mustEnd(t, a)
		if got, err := readAll(t, b); err != nil || got != "hello" {
			t.Fatalf("read %q, %v; want all of it and no error", got, err)
		}
	})
	t.Run("OtherDirectionGoesOn", func(t *testing.T) {
		a, b := pair(t)
		defer a.Close()
		defer b.Close()
		mustEnd(t, a)
		if got, err := readAll(t, b); err != nil || got != "" {
			t.Fatalf("read %q, %v; want an end", got, err)
		}
		mustWrite(t, b, "after the end")
		mustEnd(t, b)
		if got, err := readAll(t, a); err != nil || got != "after the end" {
			t.Fatalf("read %q, %v", got, err)
		}
	})
	t.Run("SecondEndIsHarmless", func(t *testing.T) {
		a, b := pair(t)
		defer a.Close()
		defer b.Close()
		mustEnd(t, a)
		a.CloseWrite()
		if _, err := readAll(t, b); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("AbortIsNoEnd", func(t *testing.T) {
		a, b := pair(t)
		defer a.Close()
		defer b.Close()
		mustWrite(t, a, "torn")
		a.Abort()
		if got, err := readAll(t, b); err == nil {
			t.Fatalf("read %q and an orderly end after an abort", got)
		}
	})
	t.Run("AbortUnblocksRead", func(t *testing.T) {
		a, b := pair(t)
		defer b.Close()
		done := make(chan error, 1)
		go func() {
			_, err := a.Read(make([]byte, 1))
			done <- err
		}()
		a.Abort()
		if err := within(t, done); err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("read after own abort: %v; want an error that is no end", err)
		}
		a.Abort()
		a.Close()
	})
	t.Run("AbortUnblocksWrite", func(t *testing.T) {
		a, b := pair(t)
		defer b.Close()
		done := make(chan error, 1)
		go func() {
			buf := make([]byte, 1<<20)
			for {
				if _, err := a.Write(buf); err != nil {
					done <- err
					return
				}
			}
		}()
		a.Abort()
		within(t, done)
		a.Close()
	})
	t.Run("CloseAfterBothEndsLosesNothing", func(t *testing.T) {
		a, b := pair(t)
		defer b.Close()
		want := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
		go func() {
			b.CloseWrite()
		}()
		done := make(chan error, 1)
		go func() {
			_, err := a.Write(want)
			if err == nil {
				err = a.CloseWrite()
			}
			if err == nil {
				_, err = io.Copy(io.Discard, a)
			}
			a.Close()
			done <- err
		}()
		got, err := readAll(t, b)
		if err != nil || got != string(want) {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
		if err := within(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

func mustWrite(t *testing.T, s forward.Stream, data string) {
	t.Helper()
	if _, err := io.WriteString(s, data); err != nil {
		t.Fatal(err)
	}
}

func mustEnd(t *testing.T, s forward.Stream) {
	t.Helper()
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func readAll(t *testing.T, s forward.Stream) (string, error) {
	t.Helper()
	var data []byte
	done := make(chan error, 1)
	go func() {
		var err error
		data, err = io.ReadAll(s)
		done <- err
	}()
	err := within(t, done)
	return string(data), err
}

func within(t *testing.T, done <-chan error) error {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		t.Fatal("blocked")
		return nil
	}
}
