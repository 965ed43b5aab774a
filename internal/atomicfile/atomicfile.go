// Package atomicfile writes files that are either complete under their name or not there at all.
//
// A file is written under a temporary name in the folder of its target,
// synced, and renamed over the target by Commit, whose folder is then synced
// too. Until then the target, if there is one, is untouched.
package atomicfile

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/writebehind"
)

// File is a file being written. Write and WriteAt are those of os.File, and
// WriteAt may be called from many goroutines at once.
type File struct {
	f      *os.File
	target string // resolved path of the final file
	name   string // path as given
	temp   string

	preallocated bool
	early        early
	stream       *writebehind.Writer // after Stream, if it leaves the page cache out
	pos          int64               // of the next Write then

	mu   sync.Mutex
	done bool // committed or aborted
}

// Create begins the file that will be at path. Its permission bits are those
// of any new file (0666 less the umask). If path is a symbolic link, the file
// it points to is the target. It is an error if path is a folder or if its folder does not exist.
func Create(path string) (*File, error) {
	target, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, unwrap(err))
	}
	dir, base := filepath.Split(target)
	// A name as long as the file system allows must not grow; 9 bytes of it are enough to recognise.
	temp := filepath.Join(dir, fmt.Sprintf(".%.64s.%s.tmp", base, rand.Text()))
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("create %s: temporary file in %s: %w", path, filepath.Dir(target), unwrap(err))
	}
	return &File{f: f, target: target, name: path, temp: temp}, nil
}

// resolve gives the path of the file to be replaced.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("got an empty path, want a file name")
	}
	st, err := os.Lstat(path)
	if err == nil && st.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		st, err = os.Lstat(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if os.IsPathSeparator(path[len(path)-1]) {
			return "", errors.New("got the name of a folder, want a file name")
		}
		return path, nil
	case err != nil:
		return "", err
	case st.IsDir():
		return "", errors.New("got a folder, want a file name")
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("got %s, want a regular file or none", st.Mode().Type())
	}
	return path, nil
}

// Name gives the path that was given to Create.
func (f *File) Name() string { return f.name }

// TempName gives the path under which the file is until Commit.
func (f *File) TempName() string { return f.temp }

// Write appends p at the current position.
func (f *File) Write(p []byte) (n int, err error) {
	if f.stream != nil {
		n, err = f.stream.WriteAt(p, f.pos)
		f.pos += int64(n)
	} else {
		n, err = f.f.Write(p)
		f.early.wrote(f.f, n)
	}
	return n, f.wrap("write", err)
}

// WriteAt writes p at off; it may be called from many goroutines at once.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	if f.stream != nil {
		n, err = f.stream.WriteAt(p, off)
	} else {
		n, err = f.f.WriteAt(p, off)
		f.early.wrote(f.f, n)
	}
	return n, f.wrap("write", err)
}

// Preallocate reserves room for size bytes without changing the size of the
// file, so that a full disk shows before the work and not after it. On a file system
// that cannot do that it checks the free space instead. The error wraps
// syscall.ENOSPC, as that of a Write does, if there is not enough.
func (f *File) Preallocate(size int64) error {
	if size <= 0 {
		return nil
	}
	err := fallocate(f.f, size)
	if errors.Is(err, errors.ErrUnsupported) {
		return f.wrap("reserve room for", f.checkFree(size))
	}
	if err != nil {
		return f.wrap("reserve room for", fmt.Errorf("%d bytes: %w", size, err))
	}
	f.preallocated = true
	return nil
}

func (f *File) checkFree(size int64) error {
	free, err := FreeSpace(filepath.Dir(f.target))
	if err != nil {
		return err
	}
	if uint64(size) > free {
		return fmt.Errorf("%w: got %d bytes free, want %d", unix.ENOSPC, free, size)
	}
	return nil
}

// Commit syncs the file, gives it its name and syncs the folder. If it fails,
// nothing is left behind and the old target is as it was. After Abort it is an error.
func (f *File) Commit() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return fmt.Errorf("commit %s: %w", f.name, os.ErrClosed)
	}
	f.done = true
	err := f.finish()
	if e := f.f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.temp, f.target)
	}
	if err != nil {
		os.Remove(f.temp)
		return fmt.Errorf("commit %s: %w", f.name, unwrap(err))
	}
	if err := syncDir(filepath.Dir(f.target)); err != nil {
		return fmt.Errorf("commit %s: sync folder: %w", f.name, unwrap(err))
	}
	return nil
}

// finish waits for the background, gives back room that was reserved but not used, and syncs.
func (f *File) finish() error {
	f.early.wait()
	if f.stream != nil {
		if err := errors.Join(f.stream.Finish(), f.stream.Close()); err != nil {
			return err
		}
	}
	if f.preallocated {
		st, err := f.f.Stat()
		if err != nil {
			return err
		}
		if err := f.f.Truncate(st.Size()); err != nil {
			return err
		}
	}
	return f.f.Sync()
}

// Abort removes the temporary file. After Commit, or a second time, it does
// nothing, so it can be deferred right after Create.
func (f *File) Abort() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil
	}
	f.done = true
	f.early.wait()
	if f.stream != nil {
		f.stream.Close()
	}
	f.f.Close()
	if err := os.Remove(f.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("abort %s: %w", f.name, unwrap(err))
	}
	return nil
}

// wrap names the file in an error.
func (f *File) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, f.name, unwrap(err))
}

// WriteFile writes the file at path with what write writes, buffered. If write
// fails, or the disk is full, nothing is left and an old file at path is as it was.
func WriteFile(path string, write func(w io.Writer) error) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer f.Abort()
	w := bufio.NewWriterSize(f, 1<<18)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Commit()
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return ignoreUnsupported(d.Sync())
}

// unwrap takes paths out of an os error, because the caller names the file itself.
func unwrap(err error) error {
	switch e := err.(type) {
	case *os.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}

// WriteJSON writes v to path as JSON, indented by two spaces, with < and & as they are, by WriteFile.
func WriteJSON(path string, v any) error {
	return WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
