package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The byte layouts of doc.go, and nothing that reads or writes files.
const (
	segmentMagic   = "mkdurlog"
	segmentVersion = 1
	segmentHeader  = 32 // magic 8 || version u32 || segment u32 || base u64 || zero u32 || crc32c u32
	recordHeader   = 8  // len u32 || crc32c u32
	markFlag       = 1 << 31
	markPayload    = 8 // durable u64
	markSize       = recordHeader + markPayload
	markLength     = markFlag | markPayload
)

// Why a record, segment or log is refused: the reasons of a CorruptError; errVersion is no damage and stands alone.
var (
	errChecksum   = errors.New("the checksum does not match")
	errLength     = errors.New("impossible length")
	errCut        = errors.New("the file ends inside it")
	errMark       = errors.New("impossible sync mark")
	errZero       = errors.New("data after the end of the log")
	errHeader     = errors.New("the segment header is damaged")
	errShort      = errors.New("frames are missing before the next segment")
	errTail       = errors.New("more is damaged than a crash can tear")
	errSynced     = errors.New("it was synced, so no crash explains it")
	errMissing    = errors.New("the segment file is missing")
	errBase       = errors.New("the segment does not continue the one before it")
	errFileNumber = errors.New("the header names another segment")
	errVersion    = errors.New("another format version, use the program that wrote it")
)

// castagnoli is CRC-32C as in RFC 3720; the table is read-only and the processor has an instruction for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one decoded record: a frame, or a mark that says what was durable when it was written.
type record struct {
	mark    bool
	durable int64  // marks only
	payload []byte // frames only; shares memory with the input
	size    int    // bytes of the whole record
}

// recordSum is the checksum of a record. Segment and offset are in it, so that a record moved, swapped or repeated
// does not verify where it is now.
func recordSum(segment uint32, offset int64, length uint32, payload []byte) uint32 {
	var place [16]byte
	binary.BigEndian.PutUint32(place[0:], segment)
	binary.BigEndian.PutUint64(place[4:], uint64(offset))
	binary.BigEndian.PutUint32(place[12:], length)
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, payload)
}

func appendRecord(dst []byte, segment uint32, offset int64, length uint32, payload []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = binary.BigEndian.AppendUint32(dst, recordSum(segment, offset, length, payload))
	return append(dst, payload...)
}

func appendFrame(dst []byte, segment uint32, offset int64, payload []byte) []byte {
	return appendRecord(dst, segment, offset, uint32(len(payload)), payload)
}

func appendMark(dst []byte, segment uint32, offset, durable int64) []byte {
	var payload [markPayload]byte
	binary.BigEndian.PutUint64(payload[:], uint64(durable))
	return appendRecord(dst, segment, offset, markLength, payload[:])
}

// payloadLength reads the length field of a record; it is the only judge of what a length may be.
func payloadLength(length uint32, maxFrame int) (int, error) {
	if length == markLength {
		return markPayload, nil
	}
	// Zero is no frame, so that a run of zeros never looks like records.
	if length == 0 || length > uint32(maxFrame) {
		return 0, errLength
	}
	return int(length), nil
}

// parseRecord reads the record that b begins with and that stands at offset of segment. It is strict: what it
// accepts, the append functions write byte for byte. On error the record is zero.
func parseRecord(b []byte, segment uint32, offset int64, maxFrame int) (record, error) {
	if len(b) < recordHeader {
		return record{}, errCut
	}
	length := binary.BigEndian.Uint32(b)
	n, err := payloadLength(length, maxFrame)
	if err != nil {
		return record{}, err
	}
	if len(b)-recordHeader < n {
		return record{}, errCut
	}
	payload := b[recordHeader : recordHeader+n]
	if binary.BigEndian.Uint32(b[4:]) != recordSum(segment, offset, length, payload) {
		return record{}, errChecksum
	}
	if length != markLength {
		return record{payload: payload, size: recordHeader + n}, nil
	}
	durable := binary.BigEndian.Uint64(payload)
	if durable < segmentHeader || durable > uint64(offset) {
		return record{}, errMark
	}
	return record{mark: true, durable: int64(durable), size: markSize}, nil
}

// header is the head of a segment: its number and the index of its first frame.
type header struct {
	segment uint32
	base    uint64
}

func (h header) encode() []byte {
	b := make([]byte, 0, segmentHeader)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, segmentVersion)
	b = binary.BigEndian.AppendUint32(b, h.segment)
	b = binary.BigEndian.AppendUint64(b, h.base)
	b = binary.BigEndian.AppendUint32(b, 0)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseHeader(b []byte) (header, error) {
	if len(b) != segmentHeader || string(b[:8]) != segmentMagic ||
		binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) || binary.BigEndian.Uint32(b[24:]) != 0 {
		return header{}, errHeader
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != segmentVersion {
		return header{}, fmt.Errorf("%w: it has %d, this program reads %d", errVersion, v, segmentVersion)
	}
	return header{segment: binary.BigEndian.Uint32(b[12:]), base: binary.BigEndian.Uint64(b[16:])}, nil
}
