package atomicfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// list gives the names in dir.
func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func create(t *testing.T, path string) *File {
	t.Helper()
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Abort() })
	return f
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
	}
}

func TestCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	put(t, path, "old")
	f := create(t, path)
	if f.Name() != path || filepath.Dir(f.TempName()) != dir {
		t.Errorf("got name %s, temporary name %s", f.Name(), f.TempName())
	}
	if _, err := f.Write([]byte("hello, world")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("HELL"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("s")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("dwarf!"), 7); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "old")
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "HELLo, dwarf!")
	if err := f.Abort(); err != nil {
		t.Errorf("abort after commit: %v", err)
	}
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second commit: got error %v, want %v", err, os.ErrClosed)
	}
	wantFile(t, path, "HELLo, dwarf!")
	if got := list(t, dir); got != "x.gguf" {
		t.Errorf("folder: got %s, want x.gguf", got)
	}
}

func TestAbort(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	put(t, path, "old")
	f := create(t, path)
	if _, err := f.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Abort(); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("commit after abort: got error %v, want %v", err, os.ErrClosed)
	}
	if _, err := f.Write([]byte("more")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after abort: got error %v, want %v", err, os.ErrClosed)
	}
	wantFile(t, path, "old")
	if got := list(t, dir); got != "x.gguf" {
		t.Errorf("folder: got %s, want x.gguf", got)
	}
}

// TestPermissions compares with what os.Create gives under two umasks.
func TestPermissions(t *testing.T) {
	for _, mask := range []int{0o022, 0o077} {
		old := unix.Umask(mask)
		dir := t.TempDir()
		plain, err := os.Create(filepath.Join(dir, "plain"))
		if err == nil {
			plain.Close()
			err = WriteFile(filepath.Join(dir, "atomic"), func(io.Writer) error { return nil })
		}
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := os.Stat(filepath.Join(dir, "plain"))
		got, err := os.Stat(filepath.Join(dir, "atomic"))
		if err != nil || got.Mode() != want.Mode() {
			t.Errorf("umask %o: got %v, %v, want %v", mask, got.Mode(), err, want.Mode())
		}
	}
}

func TestCreateErrors(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "")
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	before := list(t, dir)
	for path, want := range map[string]string{
		"":                              "create : got an empty path, want a file name",
		dir:                             "create {}: got a folder, want a file name",
		dir + "/":                       "create {}/: got a folder, want a file name",
		filepath.Join(dir, "new") + "/": "create {}/new/: got the name of a folder, want a file name",
		filepath.Join(dir, "no", "x"):   "create {}/no/x: temporary file in {}/no: no such file or directory",
		filepath.Join(dir, "file", "x"): "create {}/file/x: not a directory",
		filepath.Join(dir, "dangling"):  "create {}/dangling: no such file or directory",
		filepath.Join(dir, "fifo"):      "create {}/fifo: got p---------, want a regular file or none",
	} {
		f, err := Create(path)
		if err == nil {
			f.Abort()
		}
		if want := strings.ReplaceAll(want, "{}", dir); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
	if got := list(t, dir); got != before {
		t.Errorf("folder: got %s, want %s", got, before)
	}
}

// TestSymlink writes through a link: the link stays, the file it points to is replaced.
func TestSymlink(t *testing.T) {
	dir, real := t.TempDir(), t.TempDir()
	target, link := filepath.Join(real, "target"), filepath.Join(dir, "link")
	put(t, target, "old")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	wantFile(t, target, "new")
	if got, err := os.Readlink(link); err != nil || got != target {
		t.Errorf("link: got %s, %v, want %s", got, err, target)
	}
	if list(t, dir)+" "+list(t, real) != "link target" {
		t.Errorf("folders: got %s and %s, want link and target", list(t, dir), list(t, real))
	}
}

func TestLongName(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 255))
	if err := WriteFile(path, func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err }); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "x")
}

var errDisk = errors.New("disk full")

// TestWriteFileFails lets the writing function fail after n bytes: nothing may be left.
func TestWriteFileFails(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 20} {
		dir := t.TempDir()
		path := filepath.Join(dir, "x")
		put(t, path, "old")
		err := WriteFile(path, func(w io.Writer) error {
			if _, err := w.Write(make([]byte, n)); err != nil {
				return err
			}
			return errDisk
		})
		if err != errDisk {
			t.Errorf("after %d bytes: got error %v, want %v itself", n, err, errDisk)
		}
		wantFile(t, path, "old")
		if got := list(t, dir); got != "x" {
			t.Errorf("after %d bytes: folder: got %s, want x", n, got)
		}
	}
}

// TestWriteFilePanics lets the writing function panic.
func TestWriteFilePanics(t *testing.T) {
	dir := t.TempDir()
	func() {
		defer func() { recover() }()
		WriteFile(filepath.Join(dir, "x"), func(io.Writer) error { panic("in the middle") })
	}()
	if got := list(t, dir); got != "" {
		t.Errorf("folder: got %s, want nothing", got)
	}
}

// TestCommitFails takes the temporary file away before the rename.
func TestCommitFails(t *testing.T) {
	dir := t.TempDir()
	f := create(t, filepath.Join(dir, "x"))
	if err := os.Remove(f.TempName()); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil || !strings.Contains(err.Error(), "commit "+f.Name()+": no such file or directory") {
		t.Errorf("got error %v", err)
	}
	if got := list(t, dir); got != "" {
		t.Errorf("folder: got %s, want nothing", got)
	}
}

// TestCommitOverFolder has a folder appear under the name meanwhile.
func TestCommitOverFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	f := create(t, path)
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil {
		t.Error("got no error, want one")
	}
	if got := list(t, dir); got != "x" {
		t.Errorf("folder: got %s, want x", got)
	}
}

func TestPreallocate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	f := create(t, path)
	if err := f.Preallocate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("short")); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "short")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 1<<16 {
		t.Errorf("got %d bytes on disk, %v, want the reserved room given back", st.Blocks*512, err)
	}
}

func TestPreallocateTooMuch(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "x"))
	for _, err := range []error{f.Preallocate(1 << 60), f.wrap("reserve room for", f.checkFree(1<<60))} {
		if err == nil || !strings.HasPrefix(err.Error(), "reserve room for "+f.Name()+": ") {
			t.Errorf("got error %v, want one", err)
		}
	}
	if err := f.checkFree(1 << 60); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got error %v, want %v in it", err, syscall.ENOSPC)
	}
	if err := f.checkFree(1); err != nil {
		t.Errorf("one byte: got error %v, want none", err)
	}
	for _, n := range []int64{0, -1} {
		if err := f.Preallocate(n); err != nil {
			t.Errorf("%d bytes: got error %v, want none", n, err)
		}
	}
}

func TestWriteAtConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	f := create(t, path)
	const part = 1 << 12
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, part), int64(i*part)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 16 {
		want.WriteString(strings.Repeat(string(rune('a'+i)), part))
	}
	wantFile(t, path, want.String())
}

func TestFreeSpace(t *testing.T) {
	if n, err := FreeSpace(t.TempDir()); err != nil || n == 0 {
		t.Errorf("got %d, %v, want free bytes", n, err)
	}
	if _, err := FreeSpace(filepath.Join(t.TempDir(), "absent")); err == nil || !strings.HasPrefix(err.Error(), "free space of ") {
		t.Errorf("got error %v, want one", err)
	}
}
