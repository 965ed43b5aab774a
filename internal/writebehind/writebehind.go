// Package writebehind writes a file of a known size past the page cache, behind
// the program that makes it.
//
// What the program writes, in any order, is gathered in blocks in memory. A whole
// block is given to the disk with O_DIRECT, several at once, while the program
// goes on: the kernel has no page to find, fill and write back, and what other
// programs have in the page cache stays there. The price is that whoever reads
// the file next reads it from the disk.
package writebehind

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/directio"
)

const (
	blockSize = 2 << 20 // bytes that go to the disk at once
	blockRoom = 24      // blocks in memory, those on their way to the disk among them
	align     = directio.Align
)

// Memory is what a Writer holds until all of its file is written, in bytes.
const Memory = blockRoom * blockSize

// Writer writes one file. WriteAt may be called from many goroutines at once.
type Writer struct {
	plain  *os.File // for what does not fill a page
	direct *os.File // the same file, open with O_DIRECT
	size   int64

	mu      sync.Mutex
	cond    sync.Cond
	blocks  map[int64]*block // those in memory
	order   []*block         // of them those being filled, the oldest first
	settled []bool           // blocks that are in the file: what comes for them later is written as in any file
	left    int              // blocks that are not
	arena   []byte
	free    [][]byte // memory for blocks, in arena
	leaving int      // blocks on their way to the disk
	err     error    // the first of a write in the background
	writing sync.WaitGroup
}

// block is memory for a part of the file.
type block struct {
	index   int64
	data    []byte
	spans   []span // what is there: ordered, apart
	users   int    // goroutines that copy into data
	leaving bool
}

// span is a range of bytes in a block.
type span struct{ begin, end int }

// New begins to write f and makes it size bytes long. The file must be new: what it has
// is kept where nothing is written, but no page of it may be in the page cache. Where its file
// system knows no O_DIRECT, or does not say so, the error wraps [errors.ErrUnsupported].
func New(f *os.File, size int64) (*Writer, error) {
	direct, err := openDirect(f)
	if err != nil {
		return nil, err
	}
	return newWriter(f, direct, size, blockRoom)
}

// newWriter writes with room for so many blocks.
func newWriter(f, direct *os.File, size int64, room int) (*Writer, error) {
	arena, free, err := directio.Slots(room, blockSize)
	if err != nil {
		direct.Close()
		return nil, err
	}
	w := &Writer{plain: f, direct: direct, size: size, blocks: map[int64]*block{}, arena: arena, free: free}
	w.cond.L = &w.mu
	w.left = int((size + blockSize - 1) / blockSize)
	w.settled = make([]bool, w.left)
	if err := f.Truncate(size); err != nil { // a direct write that makes the file longer waits for every other
		w.Close()
		return nil, err
	}
	return w, nil
}

// openDirect opens f again for writes that leave the page cache out.
func openDirect(f *os.File) (*os.File, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
		return nil, fmt.Errorf("statx: %w", err)
	}
	if a := max(st.Dio_mem_align, st.Dio_offset_align); a == 0 || a > align {
		return nil, fmt.Errorf("direct writes: got an alignment of %d bytes, want 1 to %d: %w", a, align, unix.ENOTSUP)
	}
	return directio.Open(f, os.O_WRONLY)
}

// WriteAt takes p for the file at off. The error may be that of an earlier call's bytes.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		begin := int(at % blockSize)
		n := min(len(p)-done, blockSize-begin)
		b, err := w.take(at / blockSize)
		if err != nil {
			return done, err
		}
		if b != nil {
			copy(b.data[begin:], p[done:done+n])
			w.give(b, span{begin, begin + n})
		} else if n, err := w.plain.WriteAt(p[done:done+n], at); err != nil {
			return done + n, err
		}
		done += n
	}
	return done, nil
}

// take gives block i for copying into it, until give; nil if its bytes are to be written as in any file.
func (w *Writer) take(i int64) (*block, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if w.err != nil {
			return nil, w.err
		}
		if i >= int64(len(w.settled)) || w.settled[i] {
			return nil, nil
		}
		b := w.blocks[i]
		switch {
		case b != nil && !b.leaving:
			b.users++
			return b, nil
		case b == nil && len(w.free) > 0:
			last := len(w.free) - 1
			b = &block{index: i, data: w.free[last], users: 1}
			w.free = w.free[:last]
			w.blocks[i], w.order = b, append(w.order, b)
			return b, nil
		case b == nil && w.leaving == 0:
			w.spill()
		}
		w.cond.Wait()
	}
}

// give ends the use of b, of which part was copied.
func (w *Writer) give(b *block, part span) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.users--
	b.add(part)
	if b.users > 0 {
		return
	}
	if whole := (span{0, int(min(blockSize, w.size-b.index*blockSize))}); b.spans[0] == whole {
		w.send(b)
	} else {
		w.cond.Broadcast() // it may be spilled now
	}
}

// spill makes room: the oldest block that nobody copies into leaves as it is. If there is none, one will come.
func (w *Writer) spill() {
	for _, b := range w.order {
		if b.users == 0 {
			w.send(b)
			return
		}
	}
}

// send has b written in the background.
func (w *Writer) send(b *block) {
	b.leaving = true
	w.leaving++
	w.order = slices.DeleteFunc(w.order, func(o *block) bool { return o == b })
	w.writing.Go(func() {
		err := w.write(b)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err == nil {
			w.err = err
		}
		w.leaving--
		w.settled[b.index] = true
		w.free = append(w.free, b.data)
		delete(w.blocks, b.index)
		if w.left--; w.left == 0 {
			w.release()
		}
		w.cond.Broadcast()
	})
}

// write puts what there is of b into the file: whole pages past the page cache, the rest as in any file.
// No page gets both, but for one that is written again later.
func (w *Writer) write(b *block) error {
	for _, s := range b.spans {
		begin, end := (s.begin+align-1)/align*align, s.end/align*align
		if begin >= end {
			begin, end = s.end, s.end
		}
		if err := w.writeSpan(w.plain, b, span{s.begin, begin}); err != nil {
			return err
		}
		if err := w.writeSpan(w.direct, b, span{begin, end}); err != nil {
			return err
		}
		if err := w.writeSpan(w.plain, b, span{end, s.end}); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) writeSpan(f *os.File, b *block, s span) error {
	if s.begin == s.end {
		return nil
	}
	_, err := f.WriteAt(b.data[s.begin:s.end], b.index*blockSize+int64(s.begin))
	var e *os.PathError
	if errors.As(err, &e) {
		return e.Err // the name in it is one that nobody knows
	}
	return err
}

// add puts a range that was copied to those that are there.
func (b *block) add(n span) {
	at := 0
	for at < len(b.spans) && b.spans[at].end < n.begin {
		at++
	}
	last := at
	for last < len(b.spans) && b.spans[last].begin <= n.end {
		n = span{min(n.begin, b.spans[last].begin), max(n.end, b.spans[last].end)}
		last++
	}
	b.spans = slices.Replace(b.spans, at, last, n)
}

// Finish gives what is left to the disk and waits until all is written, but does not
// sync. It gives the first error of all writes. Nothing may be written any more; Close is still to be called.
func (w *Writer) Finish() error {
	w.mu.Lock()
	for len(w.order) > 0 {
		w.send(w.order[0])
	}
	w.mu.Unlock()
	w.writing.Wait()
	return w.err
}

// Close waits for what is on its way to the disk and gives the memory back. What was not whole, without Finish, is lost.
func (w *Writer) Close() error {
	w.writing.Wait()
	w.release()
	return w.direct.Close()
}

// release gives the memory back.
func (w *Writer) release() {
	directio.Free(w.arena)
	w.arena, w.free = nil, nil
}
