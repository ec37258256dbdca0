// Package audit is a node's audit log: a Merkle tree of what happened, on disk in the C2SP tlog-tiles layout, signed by the
// node so that nobody without its key changes what was written, and checkable by anybody who knows the node's id.
//
// # Vocabulary
//
//	leaf        the canonical bytes of one event; entry: a leaf with its index, from 0
//	commit      up to 64 leaves that one fsync made durable, signed with the root of the tree they gave
//	journal     the commits since the tiles were last written; the only file that Append waits for
//	bundle      256 entries; hash tile: 256 hashes of one tile level (8 levels of the tree)
//	checkpoint  the signed statement "my log has size entries and this root", a C2SP signed note
//	history     checkpoints of the past, thinned
//	gap         a time in which events happened that could not be written
//
// # Files
//
// The folder of all logs has one folder per node id (compact text form, keys.NodeID.Compact); a rotated key has a new id and a
// new log. In it:
//
//	checkpoint                      the newest signed checkpoint
//	tile/entries/NNN[.p/W]          bundle NNN, or the first W entries of it: per entry len u16 || leaf
//	tile/L/NNN[.p/W]                hash tile NNN of level L: W hashes of 32 bytes (all 256 without .p/W)
//	history/NNNNNN.NNNNNN           internal/durable logs; a frame is a signed checkpoint
//	journal/NNNNNN.NNNNNN           internal/durable logs; a frame is a commit
//
// NNN is written in groups of three digits, x001/x234/067, as in https://c2sp.org/tlog-tiles. Partial tiles exist for the size of
// the checkpoint only. The tree is that of RFC 6962 §2.1: leaf hash SHA-256(0x00 || leaf), node hash SHA-256(0x01 || left || right).
//
// # Leaf
//
// A CBOR map in the one canonical form of internal/wire, at most 2,048 bytes. Text fields that are empty and numbers that are
// zero are left out; an entry that writes them is refused. All text is valid UTF-8 without control, format and line-separator
// characters, at most as long as given (bytes), and cannot look like an age secret key or an invite.
//
//	 1 version   uint = 1
//	 2 time      uint, unix milliseconds, at most the end of 9999
//	 3 code      text 48, noun.verb in a-z; written codes are in codes.go, others are read
//	 4 actor     text 160      who
//	 5 target    text 256      on what
//	 6 verdict   1 allowed, 2 denied, 3 failed
//	 7 reason    text 256
//	 8 grant     text 128      what decided
//	 9 session   text 64       what belongs together
//	10 bytes     uint
//	11 duration  uint, milliseconds
//	12 before    text 512
//	13 after     text 512
//	14 count     uint, of entries that stand for others (aggregated denials) or for what was lost (gaps): how many
//
// Versioning: a field is added by a new version number only; codes are added freely, never renamed, never reused.
//
// The first entry of a log is audit.open, its target the origin. If the log follows one of a rotated key, its before is
// "<node id> <size> <root in base64>" of that log's last checkpoint, or "<node id> missing" or "<node id> damaged" where there was none to
// be read. VerifyChain holds each log against what the next one says of it.
//
// # Commit
//
//	[first u64, [leaf bstr, 0..64], root bstr32, sig bstr64]
//
// CBOR as above; sig is the node's signature under the label "audit" over CBOR [1, size u64, root bstr32], size = first + number of
// leaves, root the tree hash at that size. A journal begins with a commit of no leaves. Commits follow each other without gap.
//
// # Checkpoint
//
// A C2SP signed note (https://c2sp.org/tlog-checkpoint) of three lines and no extension,
//
//	meshkey/<first 8 hex digits of the mesh id>/audit/<node id, compact>
//	<size, decimal>
//	<root, base64>
//
// then an empty line and the signatures, the key name being the first line each time:
//
//	— <origin> base64(key hash(4) || Ed25519(text))                                     type 0x01
//	— <origin> base64(key hash(4) || time u64 || Ed25519("cosignature/v1\ntime T\n" || text))   type 0x04
//	— … up to 16 lines of others (https://c2sp.org/tlog-cosignature), kept and not verified here
//
// The second line is the node's own dated signature: checkpoints have no time of their own. Lines are not repeated, and have one
// spelling. None of these signed texts begins like another signature input of meshkey ("meshkey/1 ").
//
// # Writing
//
// Append returns when its commit is durable; callers that come while a commit is being written share the next one. Later returns
// at once, whatever the disk does; Run makes it durable within a second, sooner if more than a commit waits, and any Append behind
// it does so earlier. Order is kept. Run makes a checkpoint
// each 60 s if entries were added, earlier when 2,048 wait, and at its end; Close makes one too. A checkpoint writes bundles and
// tiles first, then the checkpoint, then at most one frame of history, then removes what it replaced: a crash on any line leaves
// the state before or after (see load).
//
// Denials of one actor beyond ten in a second are counted, and become one entry with a count when the second has passed. Of
// denials that are alike but for time, session and source port three are written, then one entry a minute with their count while more of
// them come, and at the end and at the stop one with what is left; the session of an invite's denials is the invite, and keeps them apart.
// An actor has at most 64 such kinds at a time. The entry has the time of the last that it counts, its duration goes back to the window's
// start; one denial alone is written as it was. So times are not in order. Reading ends no window: what is still counted is not in the log.
//
// # When it cannot be written
//
// After a failed write, and when more than 4 MiB of Later wait for a disk that is too slow or hangs, the log is degraded: Append and Later fail with ErrDegraded and count what is lost. Run tries again every
// 2 s: the commit that failed is written once more, byte for byte, as its first attempt may be on disk and no index is ever
// signed with two contents; then an audit.gap entry says how many events were lost, how long, why, and which entries were not
// acknowledged. Then Append works again. After a start that found the log not closed in order or repaired it, an audit.recover
// entry says so. Damage that cannot be continued without contradicting a published checkpoint is a DamageError.
//
// # Verification
//
// Verify reads every entry and every tile of a log or a copy, with no key but the node id, and names the first entry that is not
// proven. It builds one tree from entries and one from hash tiles and compares both with every signed size: if one fits, the other is
// wrong at the first difference, exactly; if entries and tiles were changed together, the history narrows the place to at most
// 256 entries, or those between two checkpoints if these were more.
//
// # Limits
//
// See limits.go. Memory: entries since the last complete bundle and not more than 8,192; what Later left, at most 4 MiB; one bundle and one tile per level while
// reading. Start reads the right edge of the tree and at most two journals, whatever the size of the log.
//
// # Properties
//
// Whoever can write the folder but lacks the node's key cannot change, insert, reorder or remove an entry below the newest
// checkpoint that is left, nor change or add one behind it, without Verify naming the place. A crash or power loss at any write
// loses no acknowledged entry.
//
// # Non-properties
//
// Such a writer can cut the log back to an older state as a whole: checkpoint, history, journal and tiles together. The result is
// consistent; only a checkpoint kept elsewhere (the known argument of Verify, a witness) shows it. Whoever has the node's key,
// as root on the host does, can write another history up to the last checkpoint that others cosigned. The log is not encrypted:
// it is as private as its folder. The time of an entry is what the host's clock said. Times of signatures are the node's own word.
package audit
