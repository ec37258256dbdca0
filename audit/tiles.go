package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// Names in the folder of one log.
const (
	checkpointName = "checkpoint"
	historyName    = "history"
	journalName    = "journal"
	tileName       = "tile"
	entriesLevel   = -1

	maxBundle = tileWidth * (2 + maxLeaf)
	maxTile   = tileWidth * tlog.HashSize
)

// Dir is the folder of a node's log, relative to the folder of all logs.
func Dir(node keys.NodeID) string { return node.Compact() }

// folder reads the files of one log.
type folder struct {
	fsys durable.FS
	dir  string
}

func (f folder) path(name string) string { return path.Join(f.dir, name) }

// tilePath is the C2SP tlog-tiles path of a tile, or of an entry bundle at level -1.
func (f folder) tilePath(level int, n uint64, width int) string {
	return f.path(torchwood.TilePath(tlog.Tile{H: tileHeight, L: level, N: int64(n), W: width}))
}

// exists reports whether a name is a regular file or a directory that can be looked at.
func (f folder) list(name string) ([]string, error) {
	entries, err := f.fsys.ReadDir(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// widths lists the partial tiles that exist for a tile, widest first.
func (f folder) widths(level int, n uint64) ([]int, error) {
	p := f.tilePath(level, n, 1) // …/NNN.p/1
	names, err := f.list(strings.TrimPrefix(path.Dir(p), f.dir+"/"))
	if err != nil {
		return nil, err
	}
	var list []int
	for _, name := range names {
		if w, err := strconv.Atoi(name); err == nil && w > 0 && w < tileWidth && strconv.Itoa(w) == name {
			list = append(list, w)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list, nil
}

// readWide reads a tile with at least want of its elements: the file of that very width, else the whole tile, else the
// widest partial one. The result may be narrower than wanted if there is nothing better, and nil if there is nothing.
func (f folder) readWide(level int, n uint64, want int) (data []byte, file string, err error) {
	limit := int64(maxTile)
	if level == entriesLevel {
		limit = maxBundle
	}
	try := []int{want}
	if want != tileWidth {
		try = append(try, tileWidth)
	}
	for i := 0; i < len(try); i++ {
		file = f.tilePath(level, n, try[i])
		data, err = durable.ReadFile(f.fsys, file, limit)
		if err == nil {
			return data, file, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, file, err
		}
		if i == len(try)-1 && len(try) <= 2 {
			more, err := f.widths(level, n)
			if err != nil {
				return nil, file, err
			}
			if len(more) == 0 {
				break
			}
			try = append(try, more...)
		}
	}
	return nil, f.tilePath(level, n, want), nil
}

// readHashes reads the first want hashes of a tile, or fewer if the file has fewer.
func (f folder) readHashes(level int, n uint64, want int) ([]tlog.Hash, string, error) {
	data, file, err := f.readWide(level, n, want)
	if err != nil {
		return nil, file, err
	}
	hashes := make([]tlog.Hash, 0, want)
	for len(data) >= tlog.HashSize && len(hashes) < want {
		hashes = append(hashes, tlog.Hash(data[:tlog.HashSize]))
		data = data[tlog.HashSize:]
	}
	return hashes, file, nil
}

// readEntries reads the first want entries of a bundle, or fewer if the file has fewer whole ones.
func (f folder) readEntries(n uint64, want int) ([][]byte, string, error) {
	data, file, err := f.readWide(entriesLevel, n, want)
	if err != nil {
		return nil, file, err
	}
	entries, _ := splitBundle(data, want)
	return entries, file, nil
}

// splitBundle cuts a bundle into at most want entries and returns what follows them.
func splitBundle(data []byte, want int) (entries [][]byte, rest []byte) {
	for len(data) > 0 && len(entries) < want {
		entry, rest, err := torchwood.ReadTileEntry(data)
		if err != nil || len(entry) > maxLeaf {
			break
		}
		entries = append(entries, entry)
		data = rest
	}
	return entries, data
}

// bundle joins entries as tlog-tiles says: a length of two bytes before each.
func bundle(entries [][]byte) []byte {
	var data []byte
	for _, e := range entries {
		var err error
		if data, err = torchwood.AppendTileEntry(data, e); err != nil {
			panic(err) // a leaf has at most maxLeaf bytes
		}
	}
	return data
}

// tileData joins hashes.
func tileData(hashes []tlog.Hash) []byte {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}

// numbered lists the durable logs of a sub-folder, journal/000001 and so on, in order. Each consists of files
// 000001.000001, 000001.000002 and so on, see internal/durable.
func (f folder) numbered(name string) ([]uint64, error) {
	names, err := f.list(name)
	if err != nil {
		return nil, err
	}
	var list []uint64
	for _, s := range names {
		digits, segment, ok := strings.Cut(s, ".")
		if !ok || len(digits) != 6 || len(segment) != 6 {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 || fmt.Sprintf("%06d", n) != digits {
			continue
		}
		if len(list) == 0 || list[len(list)-1] != n {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func (f folder) numberedPath(name string, n uint64) string {
	return f.path(fmt.Sprintf("%s/%06d", name, n))
}
