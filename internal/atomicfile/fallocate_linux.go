package atomicfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// fallocate reserves blocks without changing the size of f.
func fallocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		if err != unix.EINTR {
			return err
		}
	}
}
