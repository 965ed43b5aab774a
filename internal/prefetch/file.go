package prefetch

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/directio"
)

// File is an open file that a [Reader] may read ahead of.
type File struct {
	*os.File
	reader atomic.Pointer[Reader]
}

// ReadAt reads len(p) bytes at off, those that were read ahead from memory. It
// may be called from many goroutines at once.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if r := f.reader.Load(); r != nil {
		return r.readAt(f, p, off)
	}
	return f.File.ReadAt(p, off)
}

// cached reports whether the page cache holds all of a range. Where the kernel
// does not tell (before Linux 6.5, or for somebody else's file), it says so too.
func cached(f *File, off, n int64) bool {
	r, c := unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, unix.Cachestat_t{}
	if err := unix.Cachestat(uint(f.Fd()), &r, &c, 0); err != nil {
		return true
	}
	page := int64(os.Getpagesize())
	return int64(c.Cache) >= (off+n+page-1)/page-off/page
}

// openDirect opens the file again for reads that leave the page cache out.
func openDirect(f *File) (*os.File, error) { return directio.Open(f.File, os.O_RDONLY) }
