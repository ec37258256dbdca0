package audit

import "fmt"

// Leaf returns the canonical bytes of one entry: what is hashed into the tree.
func (l *Log) Leaf(index uint64) ([]byte, error) {
	entries, first, err := l.around(index)
	if err != nil {
		return nil, err
	}
	if index < first || index-first >= uint64(len(entries)) {
		return nil, fmt.Errorf("the log has no entry %d", index)
	}
	return append([]byte(nil), entries[index-first]...), nil
}
