package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func keys(t *testing.T, path string) (out []string) {
	t.Helper()
	if err := Read(path, 0, func(_ int64, r *Row) error { out = append(out, r.Key+r.Reason); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAppendAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	j := open(t, dir)
	big := strings.Repeat("<|eot|> 가나다 & ", 100_000)
	for i, r := range []*Row{{Key: "a", Answer: "<|eot|>"}, {Key: "b", Reason: "empty"}, {Key: "b", Answer: big}} {
		if err := j.Append(r); err != nil {
			t.Fatal(i, err)
		}
	}
	if got := fmt.Sprint(keys(t, j.Path())); got != "[a bempty b]" {
		t.Errorf("rows: got %s", got)
	}
	text, err := os.ReadFile(j.Path())
	if err != nil || !strings.Contains(string(text), `"answer":"<|eot|>"`) || int64(len(text)) != j.Size() {
		t.Errorf("got %d bytes, %v; want %d, without HTML escapes", len(text), err, j.Size())
	}
	var offsets []int64
	if err := Read(j.Path(), 0, func(at int64, _ *Row) error { offsets = append(offsets, at); return nil }); err != nil {
		t.Fatal(err)
	}
	r, err := j.Row(offsets[2])
	if err != nil || r.Answer != big {
		t.Errorf("row 3: got %v", err)
	}
	if err := Read(j.Path(), offsets[1], func(at int64, r *Row) error {
		if at < offsets[1] || r.Key != "b" {
			t.Errorf("from %d: got %s at %d", offsets[1], r.Key, at)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(&Row{Key: "c"}, &Row{Key: "a"}); !errors.Is(err, ErrTwice) {
		t.Errorf("second success: got %v", err)
	}
	if err := j.Append(&Row{Key: "c"}); err != nil {
		t.Errorf("after a refused append: %v", err)
	}
	if err := j.Append(&Row{}); err == nil {
		t.Error("row without key: got no error")
	}
	j.Close()
	if err := j.Append(&Row{Key: "d"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	j = open(t, dir)
	if err := j.Append(&Row{Key: "c"}); !errors.Is(err, ErrTwice) {
		t.Errorf("second success after opening again: got %v", err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("second writer: got %v, want ErrLocked", err)
	}
	if !Locked(dir) {
		t.Error("Locked: got false while it is open")
	}
	j.Close()
	if Locked(dir) {
		t.Error("Locked: got true after Close")
	}
	open(t, dir)
}

// TestTornEnd cuts the file at every byte, and puts rubbish behind it.
func TestTornEnd(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for i := range 2 {
		if err := j.Append(&Row{Key: fmt.Sprint("k", i), Answer: "대답"}); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	whole, err := os.ReadFile(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n")
	for n := range len(whole) + 1 {
		tails := []string{"", "\x00\x00\x00", "{\"key\":", "\n\n"}
		if n%len(lines[0]) > 2 { // all of them at the end of a row, elsewhere now and then one
			tails = tails[n%4 : n%4+1]
			if n%3 > 0 {
				continue
			}
		}
		for _, tail := range tails {
			if err := os.WriteFile(j.Path(), []byte(string(whole[:n])+tail), 0o666); err != nil {
				t.Fatal(err)
			}
			j := open(t, dir)
			want, length := 0, 0
			for _, line := range lines {
				// A row that lacks only its line end is a row, unless something is glued to it.
				length += len(line)
				end := length - strings.Count(line, "\n")
				if n >= end && (n > end || tail == "" || tail == "\n\n") {
					want++
				}
			}
			if got := len(keys(t, j.Path())); got != want {
				t.Fatalf("cut at %d, tail %q: got %d rows, want %d", n, tail, got, want)
			}
			if err := j.Append(&Row{Key: "new"}); err != nil {
				t.Fatal(err)
			}
			j.Close()
			if got := keys(t, j.Path()); len(got) != want+1 || len(j.Damaged) != 0 {
				t.Fatalf("cut at %d, tail %q: got %d rows after one more, damaged %v", n, tail, len(got), j.Damaged)
			}
		}
	}
}

func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	text := "{\"key\":\"a\"}\nrubbish\n{\"key\":\"b\"}\n"
	if err := os.WriteFile(filepath.Join(dir, Name), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	j := open(t, dir)
	if fmt.Sprint(j.Damaged, j.Repaired) != "[2] 0" {
		t.Errorf("got damaged %v, repaired %d", j.Damaged, j.Repaired)
	}
	if got, err := os.ReadFile(j.Path()); err != nil || string(got) != text {
		t.Errorf("the file was changed: %q", got)
	}
}

func TestManyWriters(t *testing.T) {
	j := open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for k := range 10 {
				if err := j.Append(&Row{Key: fmt.Sprint(i, ".", k)}, &Row{Key: fmt.Sprint(i, ":", k), Reason: "empty"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(keys(t, j.Path())); got != 1000 {
		t.Errorf("got %d rows, want 1000", got)
	}
}

// TestDiskFails: no part of a row stays, and no later one is taken.
func TestDiskFails(t *testing.T) {
	j := open(t, t.TempDir())
	if err := j.Append(&Row{Key: "a"}); err != nil {
		t.Fatal(err)
	}
	size := j.Size()
	j.f.Close() // every write fails from here on
	if err := j.Append(&Row{Key: "b"}); err == nil {
		t.Fatal("got no error")
	}
	if err := j.Append(&Row{Key: "c"}); err == nil {
		t.Fatal("after a failure: got no error")
	}
	info, err := os.Stat(j.Path())
	if err != nil || info.Size() != size {
		t.Errorf("got %v, %v, want %d bytes", info.Size(), err, size)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "file")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("folder that is a file: got %v", err)
	}
	if err := Read(filepath.Join(dir, "none"), 0, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, Name), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("journal that is a folder: got no error")
	}
}
