package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"sort"
	"sync"
)

// Recovery says what [OpenLog] found.
type Recovery struct {
	Frames   uint64 // frames in the log
	Segments int    // files it consists of; more than one after a failed fsync
	Clean    bool   // the log had been closed in order, or is new
	Torn     *Torn  // what a crash left half-written at the end; nil if nothing
}

// Torn is the damaged end of a log: it was never synced, so nothing in it had been acknowledged.
type Torn struct {
	File   string // segment file
	Frame  uint64 // index the first torn frame would have had
	Offset int64  // where it began in File
	Size   int64  // how many bytes, without zeros at their end
	Copy   string // file that keeps these bytes; empty if only looked at
	Reason error
}

// OpenLog opens the log name, whose files are name.000001, name.000002 …, or makes it if there is none. It calls
// replay, which may be nil, with every frame in order; the payload is valid during the call only. An error of replay
// ends OpenLog, returning that error, before anything was changed on disk.
//
// A torn end is cut off and kept in a file beside, named in the Recovery. Damage that no crash explains is a
// [CorruptError], and nothing is changed. What was replayed is durable when OpenLog returns nil.
//
// The caller holds the [Lock] of the directory: two writers of one log destroy it.
func OpenLog(fsys FS, name string, maxFrame int, replay func(i uint64, payload []byte) error) (*Log, *Recovery, error) {
	s, rec, err := scanLog(fsys, name, maxFrame, replay)
	if err != nil {
		return nil, nil, err
	}
	l := newLog(fsys, name, maxFrame)
	l.next, l.durable = rec.Frames, rec.Frames
	if s == nil {
		seg, file, err := createSegment(fsys, name, 1, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("creating log %s: %w", name, err)
		}
		l.file = file
		l.useSegmentLocked(seg)
		rec.Segments, rec.Clean = 1, true
		return l, rec, nil
	}
	l.segs = s.segs
	l.end, l.size, l.synced, l.covered = s.last.end, s.last.end, s.last.end, s.last.marked
	// A segment may have got its name from a process that died before its SyncDir.
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return nil, nil, fmt.Errorf("recovering log %s: %w", name, err)
	}
	l.file, err = fsys.OpenFile(l.lastLocked().file, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	if !rec.Clean {
		if err := repair(fsys, l.file, s.last, rec.Torn); err != nil {
			l.file.Close()
			return nil, nil, fmt.Errorf("recovering log %s: %w", name, err)
		}
	}
	return l, rec, nil
}

// ReadLog reads a log as [OpenLog] does but changes nothing: for verifying a copy, or a log another process writes to.
// The end of a live log may look torn.
func ReadLog(fsys FS, name string, maxFrame int, fn func(i uint64, payload []byte) error) (*Recovery, error) {
	s, rec, err := scanLog(fsys, name, maxFrame, fn)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, &fs.PathError{Op: "open", Path: segmentName(name, 1), Err: fs.ErrNotExist}
	}
	return rec, nil
}

// scannedLog is a log that was read to its end.
type scannedLog struct {
	segs []segment
	last *scan
}

// scanLog reads all segments; the result is nil if there is none.
func scanLog(fsys FS, name string, maxFrame int, fn func(i uint64, payload []byte) error) (*scannedLog, *Recovery, error) {
	if maxFrame < 1 || maxFrame > maxFrameCeiling {
		return nil, nil, fmt.Errorf("log %s: frames of up to %d bytes, allowed are 1 to %d", name, maxFrame, maxFrameCeiling)
	}
	if err := checkName("open", name); err != nil {
		return nil, nil, err
	}
	segs, err := listSegments(fsys, name)
	if err == nil {
		err = readHeaders(fsys, segs)
	}
	if err != nil {
		return nil, nil, err
	}
	rec := &Recovery{Segments: len(segs)}
	if len(segs) == 0 {
		return nil, rec, nil
	}
	var last *scan
	for i := range segs {
		stop := uint64(math.MaxUint64)
		if i+1 < len(segs) {
			// From the base of the next segment on, the frames of this one were never acknowledged and are void.
			stop = segs[i+1].base
		}
		if last, err = replaySegment(fsys, &segs[i], maxFrame, stop, fn); err != nil {
			return nil, nil, err
		}
	}
	rec.Frames = last.frames
	rec.Clean = last.reason == nil && last.marked == last.end && last.size == last.end
	if last.reason != nil {
		rec.Torn = &Torn{
			File: last.seg.file, Frame: last.frames, Offset: last.end, Size: last.tail - last.end, Reason: last.reason,
		}
	}
	return &scannedLog{segs: segs, last: last}, rec, nil
}

// replaySegment reads one segment and judges its damage: a segment with a successor has to hold all frames before stop.
func replaySegment(fsys FS, seg *segment, maxFrame int, stop uint64, fn func(i uint64, payload []byte) error) (*scan, error) {
	f, err := fsys.OpenFile(seg.file, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := scanSegment(f, info.Size(), *seg, maxFrame, point{seg.base, segmentHeader}, stop, func(i uint64, offset int64, payload []byte) error {
		seg.note(i, offset)
		if fn == nil {
			return nil
		}
		if err := fn(i, payload); err != nil {
			return fmt.Errorf("%s: frame %d: %w", seg.file, i, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if stop != math.MaxUint64 && s.frames < stop {
		reason := errShort
		if s.reason != nil {
			reason = fmt.Errorf("%w; %w", s.reason, errSynced)
		}
		return nil, &CorruptError{File: seg.file, Frame: s.frames, Offset: s.end, Reason: reason}
	}
	if err := s.corrupt(); err != nil {
		return nil, err
	}
	return s, nil
}

// repair makes the last segment, after a crash, what its good records say, and durable.
//
// If the power goes at any point the next OpenLog finds the same good records: the copy of the torn bytes is durable
// before they are cut off, rewriting changes no byte, and cutting removes none of a good record.
func repair(fsys FS, f File, s *scan, torn *Torn) error {
	if torn != nil {
		if err := keepTorn(fsys, f, torn); err != nil {
			return fmt.Errorf("keeping the torn end: %w", err)
		}
	}
	if s.size > s.end {
		if err := f.Truncate(s.end); err != nil {
			return err
		}
	}
	// An earlier process may have had its fsync fail and died: the kernel then shows bytes that it calls clean and
	// that are not on the disk. Written again they are dirty again, and this fsync tells the truth about them.
	buf := make([]byte, scanBuffer)
	for at := s.marked; at < s.end; {
		n := min(int64(len(buf)), s.end-at)
		if _, err := f.ReadAt(buf[:n], at); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return err
		}
		at += n
	}
	return f.Sync()
}

// keepTorn copies the torn bytes to a file of their own, or finds the copy that an interrupted recovery made.
func keepTorn(fsys FS, f File, torn *Torn) error {
	data := make([]byte, torn.Size) // ≤ tailLimit
	if _, err := f.ReadAt(data, torn.Offset); err != nil {
		return err
	}
	for i := range maxTornCopies {
		name := fmt.Sprintf("%s.torn.%d.%d", torn.File, torn.Offset, i)
		err := WriteNew(fsys, name, data)
		if errors.Is(err, fs.ErrExist) {
			old, readErr := ReadFile(fsys, name, torn.Size)
			if readErr != nil || !bytes.Equal(old, data) {
				continue
			}
			err = nil
		}
		if err != nil {
			return err
		}
		torn.Copy = name
		return nil
	}
	return fmt.Errorf("%d copies in the way: move %s.torn.* elsewhere", maxTornCopies, torn.File)
}

// createSegment makes an empty segment, or the one after it if its name is taken: a segment that an interrupted Reopen
// left is whole and empty, and recovery steps over it.
//
// The header is synced before the file has its name, so a segment without header does not exist.
func createSegment(fsys FS, log string, number uint32, base uint64) (segment, File, error) {
	for ; number <= maxSegment; number++ {
		seg := segment{file: segmentName(log, number), number: number, base: base}
		err := WriteNew(fsys, seg.file, header{segment: number, base: base}.encode())
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return segment{}, nil, err
		}
		file, err := fsys.OpenFile(seg.file, os.O_RDWR, 0)
		if err != nil {
			return segment{}, nil, err
		}
		return seg, file, nil
	}
	return segment{}, nil, fmt.Errorf("%s: no segment numbers left", log)
}

func newLog(fsys FS, name string, maxFrame int) *Log {
	l := &Log{fsys: fsys, name: name, maxFrame: maxFrame}
	l.cond = sync.NewCond(&l.mu)
	return l
}

// Read returns the payload of frame i < Len, in memory of its own.
func (l *Log) Read(i uint64) ([]byte, error) {
	var payload []byte
	err := l.scanRange(i, i+1, func(_ uint64, p []byte) error {
		payload = slices.Clone(p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return payload, nil
}

// Scan calls fn with the frames from index from up to the Len at the time of the call, in order; the payload is valid
// during the call only. An error of fn ends the scan and is returned as it is.
func (l *Log) Scan(from uint64, fn func(i uint64, payload []byte) error) error {
	n := l.Len()
	if from == n {
		return nil
	}
	return l.scanRange(from, n, fn)
}

// piece is a part of a range of frames that lies in one segment.
type piece struct {
	seg   segment
	start point // a frame at or before the first one wanted
	size  int64 // how much of the file may be looked at
	stop  uint64
}

func (l *Log) scanRange(from, to uint64, fn func(i uint64, payload []byte) error) error {
	pieces, err := l.locate(from, to)
	if err != nil {
		return err
	}
	for _, p := range pieces {
		if err := l.scanPiece(p, from, fn); err != nil {
			return err
		}
	}
	return nil
}

// scanPiece uses a descriptor of its own, so that readers need no lock and outlive a Reopen.
func (l *Log) scanPiece(p piece, from uint64, fn func(i uint64, payload []byte) error) error {
	f, err := l.fsys.OpenFile(p.seg.file, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := scanSegment(f, p.size, p.seg, l.maxFrame, p.start, p.stop, func(i uint64, _ int64, payload []byte) error {
		if i < from {
			return nil
		}
		return fn(i, payload)
	})
	if err != nil {
		return err
	}
	if s.frames < p.stop {
		reason := s.reason
		if reason == nil {
			reason = errShort
		}
		return &CorruptError{File: p.seg.file, Frame: s.frames, Offset: s.end, Reason: reason}
	}
	return nil
}

// locate finds the pieces that hold the frames from ≤ i < to.
func (l *Log) locate(from, to uint64) ([]piece, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("log %s: %w", l.name, fs.ErrClosed)
	}
	if from >= to || to > l.next {
		return nil, fmt.Errorf("log %s: frames %d to %d of %d: %w", l.name, from, to, l.next, fs.ErrNotExist)
	}
	var pieces []piece
	for i := range l.segs {
		seg := l.segs[i]
		stop, size := l.next, l.end
		if i+1 < len(l.segs) {
			// How long the older file is does not matter: stop ends the scan before its void part.
			stop, size = l.segs[i+1].base, 1<<62
		}
		stop = min(stop, to)
		if seg.base >= to || stop <= from || stop == seg.base {
			continue
		}
		start := point{seg.base, segmentHeader}
		// The last index entry at or before the first frame, and the first one behind the last frame.
		if n := sort.Search(len(seg.points), func(k int) bool { return seg.points[k].frame > from }); n > 0 {
			start = seg.points[n-1]
		}
		if n := sort.Search(len(seg.points), func(k int) bool { return seg.points[k].frame >= stop }); n < len(seg.points) {
			size = seg.points[n].offset
		}
		seg.points = nil // shared with the appender
		pieces = append(pieces, piece{seg: seg, start: start, size: size, stop: stop})
	}
	return pieces, nil
}
