package main

import (
	"os"
	"runtime"
	"strings"
)

// machine is where it was measured.
type machine struct {
	CPU     string  `json:"cpu"`
	Cores   int     `json:"cores"`
	Kernel  string  `json:"kernel"`
	Go      string  `json:"go"`
	Commit  string  `json:"commit"`
	Foreign float64 `json:"foreign"` // cores that other programs used before the run
}

func cores() int { return runtime.NumCPU() }

func describe(p *plan, foreign float64) machine {
	m := machine{CPU: runtime.GOARCH, Cores: cores(), Go: p.Version, Commit: p.Commit, Foreign: foreign}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if name := field(string(b), "model name"); name != "" {
			m.CPU = name
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	return m
}

// field is the first value of a key in "key : value" lines.
func field(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
