package writebehind

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// open gives a new file with room for so many blocks. Where the file system has no O_DIRECT,
// it is open a second time instead, so that all but that is tried.
func open(t *testing.T, size int64, room int) (*os.File, *Writer) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	direct, err := openDirect(f)
	if errors.Is(err, errors.ErrUnsupported) {
		direct, err = os.OpenFile(f.Name(), os.O_WRONLY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWriter(f, direct, size, room)
	if err != nil {
		t.Fatal(err)
	}
	return f, w
}

// random gives n bytes.
func random(n int64) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(p)
	return p
}

// pieces cuts [0, size) at places that are neither blocks' nor pages'.
func pieces(size, longest int64) (cuts []int64) {
	for at := int64(0); at < size; at += 1 + rand.Int64N(longest) {
		cuts = append(cuts, at)
	}
	return append(cuts, size)
}

// wantFile compares the file on the disk.
func wantFile(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	got, err := os.ReadFile(f.Name())
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
	if !bytes.Equal(got, want) {
		at := 0
		for got[at] == want[at] {
			at++
		}
		t.Errorf("byte %d (block %d): got %#x, want %#x", at, at/blockSize, got[at], want[at])
	}
}

// write writes the pieces between cuts, in the order given, with several goroutines.
func write(t *testing.T, w *Writer, data []byte, cuts []int64, order []int, goroutines int) {
	t.Helper()
	next := make(chan int, len(order))
	for _, i := range order {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range next {
				if n, err := w.WriteAt(data[cuts[i]:cuts[i+1]], cuts[i]); err != nil || int64(n) != cuts[i+1]-cuts[i] {
					t.Errorf("piece at %d: got %d, %v", cuts[i], n, err)
				}
			}
		})
	}
	wg.Wait()
}

func finish(t *testing.T, w *Writer) {
	t.Helper()
	if err := errors.Join(w.Finish(), w.Close()); err != nil {
		t.Error(err)
	}
}

// TestOrders writes in order and in any order, with much room and with next to none, so that blocks leave before they are whole.
func TestOrders(t *testing.T) {
	const size = 11*blockSize + 4*align + 123
	data := random(size)
	for _, room := range []int{1, 2, 5, 24} {
		for _, shuffled := range []bool{false, true} {
			for _, longest := range []int64{100_000, 3 * blockSize} {
				f, w := open(t, size, room)
				cuts := pieces(size, longest)
				order := rand.Perm(len(cuts) - 1)
				if !shuffled {
					for i := range order {
						order[i] = i
					}
				}
				write(t, w, data, cuts, order, 3)
				finish(t, w)
				wantFile(t, f, data)
				if t.Failed() {
					t.Fatalf("room %d, shuffled %v, pieces up to %d bytes", room, shuffled, longest)
				}
			}
		}
	}
}

// TestSizes are those around the borders of pages and blocks.
func TestSizes(t *testing.T) {
	for _, size := range []int64{0, 1, align - 1, align, align + 1, blockSize - 1, blockSize, blockSize + 1, 2*blockSize + align} {
		data := random(size)
		f, w := open(t, size, 2)
		cuts := pieces(size, 50_000)
		write(t, w, data, cuts, rand.Perm(len(cuts)-1), 1)
		finish(t, w)
		wantFile(t, f, data)
	}
}

// TestAgain writes bytes a second time, when their block is in memory, on its way, or in the file, and past the size.
func TestAgain(t *testing.T) {
	const size = 5 * blockSize
	data := random(size + 1000)
	f, w := open(t, size, 2)
	for _, at := range []int64{0, blockSize / 2, blockSize, 0, 4*blockSize - 77, 3 * blockSize, 100, size - 500} {
		for i := range data[at:min(at+blockSize, int64(len(data)))] {
			data[at+int64(i)] ^= 0x5a
		}
		if _, err := w.WriteAt(data[at:min(at+blockSize, int64(len(data)))], at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.WriteAt(data[:blockSize*5/2], 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(data[blockSize*5/2:], blockSize*5/2); err != nil {
		t.Fatal(err)
	}
	finish(t, w)
	wantFile(t, f, data)
}

// TestMissing leaves gaps, which stay zero.
func TestMissing(t *testing.T) {
	const size = 4*blockSize + 50
	want := make([]byte, size)
	f, w := open(t, size, 3)
	for _, s := range []span{{10, 20}, {align - 1, align + 1}, {3 * align, 5*align + 7}, {5*align + 9, 5*align + 10}, {3 * blockSize, 4 * blockSize}} {
		copy(want[s.begin:s.end], random(int64(s.end-s.begin)))
		if _, err := w.WriteAt(want[s.begin:s.end], int64(s.begin)); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, w)
	wantFile(t, f, want)
}

// TestPastCache: what was written whole, in whatever order, is not in the page cache, where the file system has O_DIRECT.
func TestPastCache(t *testing.T) {
	const size = 6*blockSize + 3*align + 1
	f, w := open(t, size, 4)
	probe, noDirect := openDirect(f)
	if noDirect == nil {
		probe.Close()
	}
	write(t, w, random(size), []int64{0, 1_000_001, 5_000_003, size}, []int{1, 0, 2}, 1)
	finish(t, w)
	r, c := unix.CachestatRange{Len: size}, unix.Cachestat_t{}
	if err := unix.Cachestat(uint(f.Fd()), &r, &c, 0); err != nil {
		t.Logf("cachestat: %v", err) // before Linux 6.5; then there are no pages to count
	}
	if noDirect == nil && c.Cache > 1 {
		t.Errorf("got %d pages in the cache, want the last at most", c.Cache)
	}
}

// TestErrors: what the disk refuses is told by a later call, by Finish at the latest, and nobody waits for ever.
func TestErrors(t *testing.T) {
	const size = 9 * blockSize
	_, w := open(t, size, 2)
	refuses, err := os.Open(os.DevNull) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	w.direct.Close()
	w.direct = refuses
	data := random(size)
	var told error
	for at := int64(0); at < size && told == nil; at += blockSize / 2 {
		_, told = w.WriteAt(data[at:at+blockSize/2], at)
	}
	if err := w.Finish(); told != unix.EBADF || err != unix.EBADF {
		t.Errorf("got %v from a write and %v at the end, want %v without a name", told, err, unix.EBADF)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestAbandoned closes in the middle: what was on its way is waited for.
func TestAbandoned(t *testing.T) {
	_, w := open(t, 8*blockSize, 4)
	if _, err := w.WriteAt(random(3*blockSize+99), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if w.leaving != 0 || w.arena != nil {
		t.Errorf("got %d blocks on their way, memory %v", w.leaving, w.arena != nil)
	}
}

// TestMemoryGoesBack: with the last byte of the file, before Close.
func TestMemoryGoesBack(t *testing.T) {
	const size = 3*blockSize + 5
	_, w := open(t, size, 4)
	if _, err := w.WriteAt(random(size), 0); err != nil {
		t.Fatal(err)
	}
	w.writing.Wait()
	if w.arena != nil {
		t.Error("got memory held after all is written")
	}
	finish(t, w)
}

// TestNotOnThisFileSystem: a file system without O_DIRECT is told by its error.
func TestNotOnThisFileSystem(t *testing.T) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := New(f, 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
}
