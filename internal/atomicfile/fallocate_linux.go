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

// startWriteback has the kernel begin to write what is dirty. It is a hint: an error shows in the sync at the end.
func startWriteback(f *os.File) { unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) }
