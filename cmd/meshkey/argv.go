package main

import (
	"context"
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

// inviteVariable holds an invite where other users of the machine cannot read it.
const inviteVariable = "MESHKEY_INVITE"

// hideInvite runs enroll anew with the invite in the environment, if it was an argument: every user of the machine may read the arguments of
// a process, and this one may wait minutes for a person, in which whoever reads them could enrol first. What is run has flags
// alone, so it does not come here again. It returns if that cannot be done; then the invite is used as it is.
func (c *cli) hideInvite(ctx context.Context, invite string, flags *pflag.FlagSet) {
	if c.system.Again == nil || strings.TrimSpace(invite) == "" || invite == "-" || ctx.Err() != nil {
		return
	}
	err := c.system.Again(append([]string{"enroll"}, given(flags)...), inviteVariable, invite)
	c.say("! other users of this machine can read the invite while this runs: %s", clean(err.Error()))
}

// given writes the flags that were set as arguments.
func given(flags *pflag.FlagSet) (args []string) {
	flags.Visit(func(f *pflag.Flag) {
		v := f.Value.String()
		if s, ok := f.Value.(pflag.SliceValue); ok {
			var line strings.Builder
			w := csv.NewWriter(&line)
			_ = w.Write(s.GetSlice()) // to memory
			w.Flush()
			v = strings.TrimSuffix(line.String(), "\n")
		}
		args = append(args, "--"+f.Name+"="+v)
	})
	return args
}

// wireAgain replaces this process by the same program with other arguments and one variable set. It keeps its number, its terminal and
// its files.
func wireAgain(args []string, name, value string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, name+"=") })
	return syscall.Exec(self, append([]string{os.Args[0]}, args...), append(env, name+"="+value))
}
