// Package meminfo tells how much memory the system has.
package meminfo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Read gives what meminfo in proc, the folder /proc, tells: all memory and what a new program can have without
// swapping (MemTotal and MemAvailable), in bytes. Where the system is not Linux it is an error.
func Read(proc fs.FS) (total, available int64, err error) {
	data, err := fs.ReadFile(proc, "meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range bytes.Lines(data) {
		name, value, _ := strings.Cut(string(line), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch {
		case err != nil:
		case name == "MemTotal":
			total = kib << 10
		case name == "MemAvailable":
			available = kib << 10
		}
	}
	if total == 0 {
		return 0, 0, errors.New("read memory: meminfo: got no MemTotal, want it in kB")
	}
	return total, available, nil
}

// Available is what a new program of this machine can have, in bytes; 0 where that is not known.
func Available() int64 {
	_, n, err := Read(os.DirFS("/proc"))
	if err != nil {
		return 0
	}
	return n
}
