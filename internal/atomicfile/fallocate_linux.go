package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fallocate reserves blocks without changing the size of f. In a file system in memory it would fill them with zeros,
// one after the other, and that is most of the work of writing them.
func fallocate(f *os.File, size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err == nil && st.Type == unix.TMPFS_MAGIC {
		return errors.ErrUnsupported
	}
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		if err != unix.EINTR {
			return err
		}
	}
}

// startWriteback has the kernel begin to write what is dirty. It is a hint: an error shows in the sync at the end.
func startWriteback(f *os.File) { unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) }
