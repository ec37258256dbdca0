package identity

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// ErrName is returned for a name, tag or service that is not in the allowed alphabet.
var ErrName = errors.New("name not allowed")

// CheckName accepts a node, mesh or service name: one DNS label of a–z, 0–9 and inner hyphens, at most MaxName bytes. ASCII only,
// so look-alikes and control characters cannot exist.
func CheckName(s string) error {
	if s == "" || len(s) > MaxName {
		return fmt.Errorf("%w: length %d, want 1 to %d", ErrName, len(s), MaxName)
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0 && i < len(s)-1
		if !ok {
			return fmt.Errorf("%w: %q; use a-z, 0-9 and inner hyphens", ErrName, s)
		}
	}
	return nil
}

// CheckTag accepts a tag: a–z, 0–9, and inner - _ . : , at most MaxTag bytes.
func CheckTag(s string) error {
	if s == "" || len(s) > MaxTag {
		return fmt.Errorf("%w: tag of length %d, want 1 to %d", ErrName, len(s), MaxTag)
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
			strings.IndexByte("-_.:", c) >= 0 && i > 0 && i < len(s)-1
		if !ok {
			return fmt.Errorf("%w: tag %q; use a-z, 0-9, and -_.: inside", ErrName, s)
		}
	}
	return nil
}

// CheckTags accepts a certificate's tags: each valid, sorted, unique, bounded in number and together.
func CheckTags(tags []string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("%w: %d tags, at most %d", ErrName, len(tags), MaxTags)
	}
	total := 0
	for i, t := range tags {
		if err := CheckTag(t); err != nil {
			return err
		}
		if i > 0 && tags[i-1] >= t {
			return fmt.Errorf("%w: tags not sorted and unique", ErrName)
		}
		total += len(t)
	}
	if total > MaxTagBytes {
		return fmt.Errorf("%w: tags of %d bytes together, at most %d", ErrName, total, MaxTagBytes)
	}
	return nil
}

// NormalTags sorts tags and removes duplicates, for what a person typed.
func NormalTags(tags []string) []string {
	out := append([]string{}, tags...)
	sort.Strings(out)
	n := 0
	for i, t := range out {
		if i == 0 || out[n-1] != t {
			out[n] = t
			n++
		}
	}
	return out[:n]
}
