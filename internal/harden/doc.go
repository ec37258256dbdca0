// Package harden keeps the secrets in a process's memory from other processes of the same user and from core files.
//
// [Process] is called first thing by every command that will hold a key. It
//
//   - sets the core file limit to 0, soft and hard, so that a crash writes no memory to disk;
//   - on Linux clears the dumpable flag (PR_SET_DUMPABLE, prctl(2)): no core dump by a helper program either, no ptrace and no
//     reading of /proc/PID/{mem,environ,maps,fd} by processes of the same user.
//
// What it does not do: it stops neither root nor whoever can load code into the process, memory may still be swapped out, and a
// program that the process starts is dumpable again, because the kernel resets the flag at execve.
package harden
