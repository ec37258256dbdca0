package durable

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
)

// CorruptError says that a log holds damage that no crash explains. Nothing was changed on disk.
type CorruptError struct {
	File   string // segment file, relative to the FS
	Frame  uint64 // index of the first frame that cannot be read
	Offset int64  // where in File it, or the damage before it, begins
	Reason error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at frame %d (byte %d): %v; nothing was changed; look with: meshkey audit verify, or restore the file from a backup",
		e.File, e.Frame, e.Offset, e.Reason)
}

func (e *CorruptError) Unwrap() error { return e.Reason }

// segment is one file of a log and what is known of it.
type segment struct {
	file   string  // name in the FS
	number uint32  // the NNNNNN of the file name
	base   uint64  // index of its first frame
	points []point // every pointStep bytes one, ascending; guarded by Log.mu in the last segment, else immutable
}

// point is an entry of the sparse index: the frame with this index stands at this offset.
type point struct {
	frame  uint64
	offset int64
}

// note enters a frame into the index if the last entry is far enough away.
func (s *segment) note(frame uint64, offset int64) {
	if n := len(s.points); n == 0 || offset-s.points[n-1].offset >= pointStep {
		s.points = append(s.points, point{frame, offset})
	}
}

func segmentName(log string, number uint32) string {
	return fmt.Sprintf("%s.%06d", log, number)
}

// listSegments returns the segments of a log with contiguous numbers from 1, without opening them.
func listSegments(fsys FS, log string) ([]segment, error) {
	entries, err := fsys.ReadDir(path.Dir(log))
	if err != nil {
		return nil, err
	}
	prefix := path.Base(log) + "."
	var list []segment
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || len(digits) != 6 || !isDigits(digits) {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return nil, err
		}
		// ReadDir sorts and the width is fixed, so the order is that of the numbers.
		want := uint32(len(list) + 1)
		if uint32(n) != want {
			return nil, &CorruptError{File: segmentName(log, want), Reason: errMissing}
		}
		list = append(list, segment{file: segmentName(log, want), number: want})
	}
	return list, nil
}

// readHeaders opens every segment for its header and checks that they follow each other.
func readHeaders(fsys FS, list []segment) error {
	var before uint64
	for i := range list {
		s := &list[i]
		b, err := readHead(fsys, s.file)
		if err != nil {
			return err
		}
		h, err := parseHeader(b)
		switch {
		case errors.Is(err, errVersion):
			return fmt.Errorf("%s: %w", s.file, err)
		case err != nil:
		case h.segment != s.number:
			err = errFileNumber
		case h.base < before, i == 0 && h.base != 0:
			err = errBase
		}
		if err != nil {
			return &CorruptError{File: s.file, Frame: before, Reason: err}
		}
		s.base, before = h.base, h.base
	}
	return nil
}

// readHead returns the first bytes of a segment, fewer than a header if the file has no more.
func readHead(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, segmentHeader)
	n, err := f.ReadAt(b, 0)
	if err != nil && !isEnd(err) {
		return nil, err
	}
	return b[:n], nil
}

// scan is the state of reading a segment front to back.
type scan struct {
	seg      segment
	size     int64 // of the file
	end      int64 // after the last good record
	frames   uint64
	marked   int64 // what the last mark vouches for, the mark itself included if nothing lies between
	reason   error // why the record at end is no record; nil at a clean end
	tail     int64 // if reason is set: one past the last byte that is not zero
	proven   int64 // if reason is set: the highest durable offset of a mark found behind the damage
	maxFrame int
}

// scanSegment reads the records of the first size bytes of f, from a frame on, until the end of the log, the first bad
// record, or the frame with index stop. A read error of the file system, or one from fn, is returned; damage is not an
// error here but the reason in the result.
func scanSegment(f File, size int64, seg segment, maxFrame int, from point, stop uint64, fn func(i uint64, offset int64, payload []byte) error) (*scan, error) {
	s := &scan{seg: seg, size: size, end: from.offset, frames: from.frame, marked: segmentHeader, maxFrame: maxFrame}
	r := s.reader(f)
	buf := make([]byte, recordHeader, recordHeader+markPayload)
	for s.frames < stop {
		n, err := io.ReadFull(r, buf[:recordHeader])
		if err != nil && !isEnd(err) {
			return nil, err
		}
		if n < recordHeader {
			return s, s.stopAt(f, errCut)
		}
		length, err := payloadLength(binary.BigEndian.Uint32(buf), maxFrame)
		if err != nil {
			return s, s.stopAt(f, err)
		}
		if want := recordHeader + length; cap(buf) < want {
			buf = append(make([]byte, 0, want), buf[:recordHeader]...)
		}
		buf = buf[:recordHeader+length]
		n, err = io.ReadFull(r, buf[recordHeader:])
		if err != nil && !isEnd(err) {
			return nil, err
		}
		rec, err := parseRecord(buf[:recordHeader+n], seg.number, s.end, maxFrame)
		if err != nil {
			return s, s.stopAt(f, err)
		}
		at := s.end
		s.end += int64(rec.size)
		if rec.mark {
			s.marked = rec.durable
			if rec.durable == at {
				s.marked = s.end
			}
			continue
		}
		if err := fn(s.frames, at, rec.payload); err != nil {
			return nil, err
		}
		s.frames++
	}
	return s, nil
}

// reader reads from s.end on, buffered by no more than there is.
func (s *scan) reader(f File) *bufio.Reader {
	rest := max(0, s.size-s.end)
	return bufio.NewReaderSize(io.NewSectionReader(f, s.end, rest), int(min(rest, scanBuffer)))
}

// isEnd tells the end of the file from an error of the disk.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// stopAt finds out what the bytes from s.end on are: only zeros (a clean end), or damage, and then whether a mark
// behind it proves that it had been synced.
func (s *scan) stopAt(f File, reason error) error {
	if reason == errLength {
		reason = errZeroOrLength(f, s.end)
	}
	r := s.reader(f)
	s.tail = s.end
	// A mark is found by its constant length field at any byte, and believed only if its checksum, which covers its
	// place, is right.
	var window [markSize]byte
	for at := s.end; at < s.size; at++ {
		c, err := r.ReadByte()
		if err != nil {
			if isEnd(err) {
				break
			}
			return err
		}
		if c != 0 {
			s.tail = at + 1
		}
		copy(window[:], window[1:])
		window[markSize-1] = c
		begin := at + 1 - markSize
		if begin < s.end || binary.BigEndian.Uint32(window[:]) != markLength {
			continue
		}
		if rec, err := parseRecord(window[:], s.seg.number, begin, s.maxFrame); err == nil && rec.mark {
			s.proven = max(s.proven, rec.durable)
		}
	}
	if s.tail > s.end {
		s.reason = reason
	}
	return nil
}

// errZeroOrLength names a zero length for what it is.
func errZeroOrLength(f File, offset int64) error {
	var b [4]byte
	if n, _ := f.ReadAt(b[:], offset); n == len(b) && b == [4]byte{} {
		return errZero
	}
	return errLength
}

// corrupt returns the CorruptError of the damage at s.end, or nil if it is what a crash leaves: nothing behind it was
// ever synced, and it is not longer than what can be unsynced.
func (s *scan) corrupt() error {
	if s.reason == nil {
		return nil
	}
	var reason error
	switch {
	case s.proven > s.end:
		reason = fmt.Errorf("%w; %w", s.reason, errSynced)
	case s.tail-s.end > tailLimit(s.maxFrame):
		reason = fmt.Errorf("%w; %w", s.reason, errTail)
	default:
		return nil
	}
	return &CorruptError{File: s.seg.file, Frame: s.frames, Offset: s.end, Reason: reason}
}
