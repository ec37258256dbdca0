// Package durable is the only writer of files that must survive a crash: whole files that are replaced or made once
// ([WriteFile], [WriteNew]), append-only logs ([Log]), the space kept back for a full disk ([Reserve]) and the lock on
// the state directory ([Lock]).
//
// # Vocabulary
//
//	durable    survives a power loss, as far as the disk keeps what it has confirmed
//	frame      one payload of a log, with an index from 0; what callers append and read
//	record     what a log file consists of: a frame, or a mark
//	mark       a record of the log itself: up to this offset a Sync had succeeded when it was written
//	segment    one file of a log. There is one, and one more after each failed fsync
//	torn       the end of a log that was being written when the power went: never synced, so never acknowledged
//	damaged    anything else that does not verify
//
// Everything is written against [FS], rooted at one directory: [OS] is a directory of the system behind [os.Root],
// [Mem] loses what was not synced and fails on command. Both pass the same contract test. [View] is a directory to look
// at only, of any owner and mode.
//
// # Whole files
//
// WriteFile writes NAME.tmp~N (N from 0, the first free one, O_EXCL, mode 0600), syncs it, renames it over NAME, syncs
// the directory. WriteNew links instead of renaming, so that an existing NAME is never replaced, and removes the
// temporary name. An error before the rename or link leaves NAME as it was; an error from there on is [ErrUncertain]
// and leaves NAME old or new, whole in both cases. [Sweep] removes what a crash leaves of temporary files.
//
// # Logs: bytes
//
// The log LOG consists of the files LOG.000001, LOG.000002, … without gaps. All integers are big-endian, crc32c is
// CRC-32 with the Castagnoli polynomial as in RFC 3720.
//
//	file    = header || record … || zeros
//
//	header  = magic(8) "mkdurlog"
//	        || version u32 = 1
//	        || segment u32        the number in the file name
//	        || base u64           index of the first frame of this file
//	        || zero u32
//	        || crc32c u32         of the 28 bytes before
//
//	record  = len u32 || crc32c u32 || payload
//	          crc32c of: segment u32 || offset u64 || len u32 || payload
//	          offset is where the record begins in the file
//
//	frame     len = 1 … maxFrame, the length of the payload
//	mark      len = 0x80000008, payload = durable u64, 32 ≤ durable ≤ offset
//
// The place of a record is in its checksum: a record that was moved, swapped, repeated, or belongs to another segment
// does not verify. Zero is not a length, so zeros are no records. A file is filled with zeros to a multiple of 64 KiB
// ahead of its end, so that a full disk is met by zeros and never by half a record, and so that most flushes change no
// metadata; an orderly Close cuts the zeros off.
//
// The first record written after a successful Sync is preceded by a mark, in the same write; Close syncs, then writes
// and syncs a last mark. So damage before the durable offset of any mark behind it had been synced.
//
// A frame of segment k with an index ≥ the base of segment k+1 is void: it was not known to be durable when segment k
// failed. It is never read again, whether it is there or not.
//
// Versioning: an unknown version is refused and says so. The layout of a record cannot change within a version. A log
// must always be opened with the same maxFrame or a larger one.
//
// # Logs: recovery
//
// OpenLog reads all records. The first bytes that are no record decide, if any byte from there on is not zero:
//
//	in a segment with a successor, before the base of that                 damaged
//	a mark behind them says that they had been synced                      damaged
//	more bytes up to the last one that is not zero than can be unsynced    damaged
//	otherwise                                                              torn
//
// Damaged is a [CorruptError] with file, frame and offset, and nothing is changed. Torn bytes are copied to
// LOG.NNNNNN.torn.OFFSET.K, durably, then cut off, and reported in the [Recovery]; these copies are never removed by
// this package. A crash while several frames were unsynced can persist a later one without an earlier one, so torn is
// a run of records, at most the last two groups. Then the records behind the last mark are written again in place, and
// synced: see "fsync" below. A log that was closed in order is only read. [ReadLog] judges in the same way and never
// changes anything.
//
// # Logs: groups
//
// Append writes to the operating system at once. A flush (fdatasync on Linux, else fsync; F_FULLFSYNC on darwin) starts
// as soon as somebody asks for one; what is appended while it runs is the next group. A group is at most 64 frames and
// 64 KiB (or one frame, if that is larger): a full group waits for the flush before it and then is flushed itself.
//
// # fsync
//
// A failed fsync is never repeated on its descriptor: Linux reports the error once, calls the pages clean, and the next
// fsync succeeds about bytes that are not on the disk (Rebello et al., "Can Applications Recover from fsync Failures?",
// USENIX ATC 2020). So a log fails for good ([ErrFailed]) until [Log.Reopen] begins a new segment at the first frame
// that is not known to be durable, and the caller appends again what it still wants. If the process ends instead, the
// next one cannot know; therefore recovery writes the unmarked records again before it syncs and relies on them.
//
// # Properties
//
//   - What WriteFile, WriteNew, AppendSync, Sync acknowledged survives a crash at any operation, also a crash while
//     recovering; tests cut the power at every one of them, before and after its effect.
//   - Every changed bit of a log is found, with its place: as a CorruptError, or as a torn end if the bit lies behind
//     the last mark, where damage cannot be told from an interrupted write.
//   - At most one process holds the Lock of a directory; the kernel ends it with the process.
//
// # Non-properties
//
//   - No secrecy and no authenticity: checksums find accidents. Whoever can write the file can forge it; logs of
//     consequence sign or hash what they put into frames.
//   - A log cut at a record boundary, or removed as a whole, looks like a shorter or a new one. Callers that must
//     know keep the length elsewhere (checkpoints, witnesses, issuer sequence numbers).
//   - Nothing is durable on a disk that lies about its flushes, nor on file systems without directory sync (EINVAL and
//     ENOTSUP from it are taken as "not needed").
//   - WriteNew and logs need hard links, which FAT and some mobile systems lack.
//   - Compressing or copy-on-write file systems may need space to overwrite, so zeros filled in advance do not keep
//     room there; the reserve does.
//
// Bounds are in limits.go.
package durable
