package atomicfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// streamed begins a file of size bytes that leaves the page cache out, where the file system can.
func streamed(t *testing.T, path string, size int64) *File {
	t.Helper()
	f := create(t, path)
	if err := errors.Join(f.Preallocate(size), f.behind(size)); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestBehind writes a streamed file one after the other, and at places.
func TestBehind(t *testing.T) {
	want := bytes.Repeat([]byte("seven dwarfs, one mirror. "), 1<<18)
	path := filepath.Join(t.TempDir(), "x.gguf")
	put(t, path, "old")
	f := streamed(t, path, int64(len(want)))
	half := len(want) / 2
	for at := 0; at < half; at += 99_999 {
		if _, err := f.Write(want[at:min(at+99_999, half)]); err != nil {
			t.Fatal(err)
		}
	}
	for at := half; at < len(want); at += 77_777 {
		if _, err := f.WriteAt(want[at:min(at+77_777, len(want))], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, path, "old")
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want the %d written", len(got), err, len(want))
	}
	if got := list(t, filepath.Dir(path)); got != "x.gguf" {
		t.Errorf("folder: got %s, want x.gguf", got)
	}
}

// TestBehindAborted leaves the old file, and nothing else.
func TestBehindAborted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	put(t, path, "old")
	f := streamed(t, path, 20<<20)
	if _, err := f.Write(make([]byte, 5<<20)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Abort(); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("commit after abort: got %v, want %v", err, os.ErrClosed)
	}
	wantFile(t, path, "old")
	if got := list(t, filepath.Dir(path)); got != "x.gguf" {
		t.Errorf("folder: got %s, want x.gguf", got)
	}
}

// TestStream: a small file is written as ever, one that does not fit the disk not at all.
func TestStream(t *testing.T) {
	dir := t.TempDir()
	f := create(t, filepath.Join(dir, "small"))
	if err := f.Stream(5, true); err != nil || f.stream != nil {
		t.Errorf("5 bytes: got %v, past the page cache %v, want false", err, f.stream != nil)
	}
	if _, err := f.Write([]byte("apple")); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "small"), "apple")
	free, err := FreeSpace(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := create(t, filepath.Join(dir, "huge")).Stream(int64(free)+1<<40, true); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
		t.Errorf("more than the disk has: got %v, want %v", err, syscall.ENOSPC)
	}
}

func TestPastCache(t *testing.T) {
	const gb = 1 << 30
	for _, c := range []struct {
		size, available int64
		cold, want      bool
	}{
		{5 * gb, 24 * gb, false, true},  // more than may wait for the disk
		{4 * gb, 24 * gb, false, false}, // the next program finds it in memory
		{4 * gb, 24 * gb, true, true},   // its source did not stay there either
		{4 * gb, 0, false, false},       // not known
		{4 * gb, 0, true, true},
		{streamFrom, gb, true, true},
		{streamFrom - 1, 1, true, false}, // small
	} {
		if got := pastCache(c.size, c.cold, c.available); got != c.want {
			t.Errorf("%d bytes, cold %v, %d available: got %v, want %v", c.size, c.cold, c.available, got, c.want)
		}
	}
}
