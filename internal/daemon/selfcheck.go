package daemon

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
)

// selfCheckEvery is how often the daemon looks after itself.
const selfCheckEvery = 60 * time.Second

// selfCheck repairs what it can: the reserve of disk space is filled again after it was used, the group secret is changed when it is
// due, and certificates that come near their end are told to the log.
func (d *Daemon) selfCheck(ctx context.Context) {
	tick := time.NewTicker(selfCheckEvery)
	defer tick.Stop()
	told := map[keys.NodeID]int{}
	d.watchExpiry(told)
	for {
		select {
		case <-tick.C:
			d.keepGroupFresh()
			d.watchExpiry(told)
			if d.reserve != nil {
				if err := d.reserve.Refill(); err != nil {
					d.log.Warn("the reserve of disk space is not full", "err", err)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// hostHealth is the host's part of the health summary.
func (d *Daemon) hostHealth() mesh.Health {
	var h mesh.Health
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f, err := strconv.ParseFloat(strings.SplitN(string(b), " ", 2)[0], 64); err == nil && f >= 0 {
			h.Load = uint64(f * 100)
		}
	}
	var st unix.Statfs_t
	if unix.Statfs(d.dir.path, &st) == nil {
		h.DiskFree = uint64(st.Bavail) * uint64(st.Bsize)
	}
	return h
}
