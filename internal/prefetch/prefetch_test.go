package prefetch

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// files are files of random bytes, on the disk and not in the page cache where the kernel does as it is told.
type files struct {
	open []*File
	data [][]byte
}

func newFiles(t *testing.T, sizes ...int) files {
	t.Helper()
	var fs files
	rng := rand.NewChaCha8([32]byte{1})
	for range sizes {
		n := len(fs.open)
		data := make([]byte, sizes[n])
		_, _ = rng.Read(data)
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
			t.Fatal(err)
		}
		fs.open, fs.data = append(fs.open, &File{File: f}), append(fs.data, data)
	}
	return fs
}

// check reads a range and compares it.
func (fs files) check(t *testing.T, i int, begin, end int64) {
	t.Helper()
	p := make([]byte, end-begin)
	if n, err := fs.open[i].ReadAt(p, begin); err != nil || n != len(p) {
		t.Errorf("file %d, %d to %d: got %d bytes, %v", i, begin, end, n, err)
	} else if !bytes.Equal(p, fs.data[i][begin:end]) {
		t.Errorf("file %d, %d to %d: got other bytes than the file's", i, begin, end)
	}
}

// direct starts a reader that takes nothing for cached. bytes is what it read ahead, once it has stopped.
func (fs files) direct(spans []Span, o Options) (r *Reader) {
	r = newReader(spans, o)
	r.cached = func(*File, int64, int64) bool { return false }
	r.start()
	return r
}

const (
	sizeA = 9*blockSize + 12345
	sizeB = 5*blockSize + 1
)

// spans go through both files, begin and end anywhere, and leave gaps.
func (fs files) spans() []Span {
	a, b := fs.open[0], fs.open[1]
	return []Span{{a, 4*blockSize + 77, sizeA}, {b, 0, sizeB}, {a, 1001, 4 * blockSize}, {a, 0, 999}}
}

// TestInOrder reads as announced, with several goroutines: all comes from what was read ahead.
func TestInOrder(t *testing.T) {
	fs := newFiles(t, sizeA, sizeB)
	spans := fs.spans()
	r := fs.direct(spans, Options{Workers: 3, Budget: 64 << 20})
	type part struct{ i, begin, end int64 }
	var parts []part
	var total int64
	for _, s := range spans {
		i := int64(0)
		if s.File == fs.open[1] {
			i = 1
		}
		for begin := s.Begin; begin < s.End; begin += 700_001 {
			parts = append(parts, part{i, begin, min(begin+700_001, s.End)})
		}
		total += s.End - s.Begin
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for k := next.Add(1) - 1; k < int64(len(parts)); k = next.Add(1) - 1 {
				fs.check(t, int(parts[k].i), parts[k].begin, parts[k].end)
			}
		})
	}
	wg.Wait()
	r.Stop()
	if r.bytes != total || len(r.held) != 0 || r.arena != nil {
		t.Errorf("got %d bytes read ahead, %d blocks left, want all %d bytes used", r.bytes, len(r.held), total)
	}
	fs.check(t, 0, 0, sizeA)
}

// TestJoined: spans that follow each other become one, so that blocks are as large as can be.
func TestJoined(t *testing.T) {
	a, b := new(File), new(File)
	got := joined([]Span{{a, 0, 5}, {a, 5, 9}, {b, 9, 10}, {a, 9, 12}, {a, 13, 14}, {a, 14, 15}, {a, 3, 4}})
	if want := []Span{{a, 0, 9}, {b, 9, 10}, {a, 9, 12}, {a, 13, 15}, {a, 3, 4}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestCold: most of what is announced must be out of the page cache, and what is not announced does not count.
func TestCold(t *testing.T) {
	fs := newFiles(t, 30*blockSize, 20*blockSize)
	a, b := fs.open[0], fs.open[1]
	for _, c := range []struct {
		spans []Span
		want  bool
	}{
		{[]Span{{a, 0, 30 * blockSize}}, true},
		{[]Span{{b, 0, 20 * blockSize}}, false},
		{[]Span{{a, 0, 30 * blockSize}, {b, 0, 20 * blockSize}}, true},
		{[]Span{{b, 0, 20 * blockSize}, {a, 5, 10 * blockSize}}, false},
		{nil, false},
	} {
		r := newReader(c.spans, Options{Workers: 1, Budget: 64 << 20})
		r.cached = func(f *File, off, n int64) bool { return f == b }
		r.start()
		r.Stop()
		if r.Cold() != c.want {
			t.Errorf("%d spans: got cold %v, want %v", len(c.spans), r.Cold(), c.want)
		}
	}
}

// TestAnyOrder reads ranges that nobody announced, twice, backwards, past blocks that nobody wants, with little memory.
func TestAnyOrder(t *testing.T) {
	fs := newFiles(t, sizeA, sizeB)
	for seed := range uint64(8) {
		spans := append(fs.spans(), Span{fs.open[0], 100, blockSize}) // again
		r := fs.direct(spans, Options{Workers: 2, Budget: int64(2+seed%5) * slotSize})
		var wg sync.WaitGroup
		for g := range uint64(3) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, g))
				for range 12 {
					i := rng.IntN(2)
					begin := rng.Int64N(int64(len(fs.data[i])))
					fs.check(t, i, begin, min(begin+rng.Int64N(3*blockSize), int64(len(fs.data[i]))))
				}
			})
		}
		wg.Wait()
		r.Stop()
	}
}

// TestFarApart reads one block in ten, so that what is held is what nobody wants.
func TestFarApart(t *testing.T) {
	fs := newFiles(t, 60*blockSize)
	r := fs.direct([]Span{{fs.open[0], 0, 60 * blockSize}}, Options{Workers: 2, Budget: 4 * slotSize})
	for begin := int64(0); begin < 60*blockSize; begin += 10 * blockSize {
		fs.check(t, 0, begin, begin+100)
	}
	r.Stop()
}

// TestNotThere reads a file that became shorter, one that cannot be opened again, and with no budget: as without a reader.
func TestNotThere(t *testing.T) {
	fs := newFiles(t, sizeA, sizeB)
	if err := os.Truncate(fs.open[0].Name(), 2*blockSize+50); err != nil {
		t.Fatal(err)
	}
	r := newReader(fs.spans(), Options{Workers: 1, Budget: 64 << 20})
	r.cached = func(*File, int64, int64) bool { return false }
	r.open = func(f *File) (*os.File, error) {
		if f == fs.open[1] {
			return nil, unix.EINVAL
		}
		return openDirect(f)
	}
	r.start()
	fs.check(t, 0, 0, 2*blockSize+50)
	fs.check(t, 1, 0, sizeB)
	if n, err := fs.open[0].ReadAt(make([]byte, 100), 2*blockSize); n != 50 || !errors.Is(err, io.EOF) {
		t.Errorf("file that became shorter: got %d bytes, %v, want 50 and the end", n, err)
	}
	r.Stop()
	r = fs.direct(fs.spans(), Options{Workers: 1})
	fs.check(t, 1, 0, sizeB)
	r.Stop()
	if r.bytes != 0 {
		t.Errorf("no budget: got %d bytes read ahead, want none", r.bytes)
	}
}

// TestCached leaves what the page cache holds where it is, and reads the rest.
func TestCached(t *testing.T) {
	fs := newFiles(t, sizeA, sizeB)
	_, err := os.ReadFile(fs.open[0].Name()) // into the page cache
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(fs.spans(), Options{Workers: 2, Budget: 64 << 20})
	want := int64(0)
	for _, b := range r.blocks {
		if in := cached(b.file, b.off, b.n); b.file == fs.open[0] && !in {
			t.Errorf("block at %d of the file that was read: got it not cached", b.off)
		} else if !in {
			want += b.n
		}
	}
	var c unix.Cachestat_t
	err = unix.Cachestat(uint(fs.open[1].Fd()), &unix.CachestatRange{Len: sizeB}, &c, 0)
	if err == nil && c.Cache == 0 && want != sizeB || err != nil && want != 0 {
		t.Errorf("got %d bytes not cached of a file with %d cached pages (%v)", want, c.Cache, err)
	}
	r.start()
	fs.check(t, 0, 0, sizeA)
	fs.check(t, 1, 0, sizeB)
	r.Stop()
	if r.bytes != want {
		t.Errorf("got %d bytes read ahead, want %d: what was not cached", r.bytes, want)
	}
}
