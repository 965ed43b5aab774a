package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// throttle is a control group whose processes read from one disk at most at a given speed, by the kernel's block I/O
// controller (Documentation/admin-guide/cgroup-v1/blkio-controller.rst and cgroup-v2.rst, "IO"). It needs root.
type throttle struct{ dir string }

// newThrottle limits reads of the disk that holds path to so many bytes a second.
func newThrottle(path string, bytesPerSecond int64) (*throttle, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("throttle: %s: %w", path, err)
	}
	disk, err := wholeDisk(fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return nil, err
	}
	var all error
	for _, kind := range []struct{ root, file, text string }{
		{"/sys/fs/cgroup/blkio", "blkio.throttle.read_bps_device", fmt.Sprintf("%s %d", disk, bytesPerSecond)},
		{"/sys/fs/cgroup", "io.max", fmt.Sprintf("%s rbps=%d", disk, bytesPerSecond)},
	} {
		t := &throttle{filepath.Join(kind.root, fmt.Sprintf("persona-gguf-bench-%d", os.Getpid()))}
		if _, err := os.Stat(kind.root); err != nil {
			continue
		}
		if err := os.Mkdir(t.dir, 0o755); err != nil {
			all = errors.Join(all, err)
			continue
		}
		if err := os.WriteFile(filepath.Join(t.dir, kind.file), []byte(kind.text), 0o644); err != nil {
			all = errors.Join(all, err, t.Close())
			continue
		}
		return t, nil
	}
	return nil, fmt.Errorf("throttle: the kernel's block I/O controller cannot be used here: %w", cmp.Or(all, errors.New("no control groups")))
}

// wholeDisk gives the number of the disk that a partition is of.
func wholeDisk(number string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", number))
	if err != nil {
		return "", fmt.Errorf("throttle: %s is not on a disk: %w", number, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return number, nil
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "dev"))
	if err != nil {
		return "", fmt.Errorf("throttle: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// argv is a command that runs in the group.
func (t *throttle) argv(command []string) []string {
	return append([]string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(t.dir, "cgroup.procs")}, command...)
}

// Close removes the group; its processes must have ended.
func (t *throttle) Close() error { return os.Remove(t.dir) }
