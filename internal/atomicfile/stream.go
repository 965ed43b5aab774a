package atomicfile

import (
	"errors"

	"github.com/persona-gguf/persona-gguf/internal/meminfo"
	"github.com/persona-gguf/persona-gguf/internal/writebehind"
)

const (
	streamFrom = 2 * writebehind.Memory // a smaller file is as well in the page cache
	dirtyShare = 5                      // the kernel holds a fifth of the memory at most that waits for the disk (vm.dirty_ratio)
)

// Stream is Preallocate for a file that will be size bytes long, every one of them
// written once, and chooses the way it is written. Past the page cache, where the
// file system can (see [writebehind]), goes a file that would not be in it for long
// or gains nothing there: when cold tells that what it is made from was
// not in the page cache either, and when it is larger than what the kernel lets wait for the disk.
// Any other file is written as ever, and whoever reads it next finds it in memory.
func (f *File) Stream(size int64, cold bool) error {
	if err := f.Preallocate(size); err != nil {
		return err
	}
	if !pastCache(size, cold, meminfo.Available()) {
		return nil
	}
	return f.behind(size)
}

// pastCache chooses the way of a file of size bytes with so much memory available, 0 meaning that this is not known.
func pastCache(size int64, cold bool, available int64) bool {
	return size >= streamFrom && (cold || available > 0 && size > available/dirtyShare)
}

// behind has what is written from now on leave the page cache out.
func (f *File) behind(size int64) error {
	w, err := writebehind.New(f.f, size)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	f.stream = w
	return f.wrap("begin to write", err)
}
