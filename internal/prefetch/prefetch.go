// Package prefetch reads files ahead of a program that goes through them once,
// in an order that it knows before.
//
// What the page cache holds is left there, and the program reads it as ever. The
// rest is read with O_DIRECT into a few buffers that are used again and again:
// several reads at once keep a fast disk at its own speed, the kernel has no
// pages to find, fill and give up again, and what other programs have in the
// page cache stays there. Where a file system knows no O_DIRECT, or the kernel
// does not tell what is cached (cachestat, Linux 6.5), nothing is read ahead by
// this package, and the kernel's own reading ahead is at work.
package prefetch

import (
	"os"
	"slices"
	"sync"

	"github.com/persona-gguf/persona-gguf/internal/directio"
)

const (
	blockSize = 2 << 20 // bytes of a block
	align     = directio.Align
	slotSize  = blockSize + 2*align
	atOnce    = 8 // reads
)

// Span is a range of a file, in bytes.
type Span struct {
	File       *File
	Begin, End int64
}

// Options bounds what is read ahead.
type Options struct {
	Workers int   // goroutines that read, at least
	Budget  int64 // bytes that may be held
}

type state uint8

const (
	waiting state = iota
	reading       // into a slot
	held          // in a slot
	plain         // for the program to read: it is cached, could not be read, or was read before
)

// block is a part of a span.
type block struct {
	file   *File
	off, n int64
	state  state
	slot   []byte
	data   []byte // in slot
	left   int64  // bytes that nobody asked for yet
	users  int    // goroutines that copy from data
}

// Reader reads spans ahead, in their order.
type Reader struct {
	blocks []block
	byFile map[*File][]int // blocks by offset
	ahead  int             // blocks that may be held

	cached func(f *File, off, n int64) bool
	open   func(f *File) (*os.File, error)
	cold   bool

	mu     sync.Mutex
	cond   sync.Cond
	next   int               // first block not looked at
	held   []int             // blocks that are held, the oldest first
	arena  []byte            // memory of the slots, once one is needed
	free   [][]byte          // slots
	direct map[*File]*direct // opened when first needed
	closed bool
	wg     sync.WaitGroup
	bytes  int64 // read ahead
}

// direct is a file open with O_DIRECT, nil if that cannot be.
type direct struct {
	once sync.Once
	file *os.File
}

// Start begins to read spans ahead. [File.ReadAt] of their files then takes what is
// there, until Stop. A read that comes out of order, twice, or from other places of the
// files is answered too, by a read of its own.
func Start(spans []Span, o Options) *Reader {
	r := newReader(spans, o)
	r.start()
	return r
}

// Cold reports whether most of what is to be read is not in the page cache. It
// looks at a few places only.
func (r *Reader) Cold() bool { return r.cold }

func newReader(spans []Span, o Options) *Reader {
	r := &Reader{byFile: map[*File][]int{}, direct: map[*File]*direct{}, cached: cached, open: openDirect}
	r.ahead = int(min(o.Budget/slotSize, int64(3*atOnce+4*o.Workers)))
	r.cond.L = &r.mu
	if r.ahead < 2 {
		return r
	}
	for _, s := range joined(spans) {
		for off := s.Begin; off < s.End; off += blockSize {
			n := min(blockSize, s.End-off)
			r.byFile[s.File] = append(r.byFile[s.File], len(r.blocks))
			r.blocks = append(r.blocks, block{file: s.File, off: off, n: n, left: n})
		}
	}
	for f, list := range r.byFile {
		r.direct[f] = &direct{}
		slices.SortFunc(list, func(i, j int) int { return int(r.blocks[i].off - r.blocks[j].off) })
		end, apart := int64(0), list[:0]
		for _, i := range list { // what is wanted twice is read ahead once
			b := &r.blocks[i]
			if b.off < end {
				b.state = plain
				continue
			}
			end, apart = b.off+b.n, append(apart, i)
		}
		r.byFile[f] = apart
	}
	return r
}

// joined makes one span of those that follow each other in a file.
func joined(spans []Span) (list []Span) {
	for _, s := range spans {
		if n := len(list); n > 0 && list[n-1].File == s.File && list[n-1].End == s.Begin {
			list[n-1].End = s.End
		} else {
			list = append(list, s)
		}
	}
	return list
}

func (r *Reader) start() {
	if len(r.blocks) == 0 {
		return
	}
	r.cold = r.looksCold()
	for f := range r.byFile {
		f.reader.Store(r)
	}
	for range min(atOnce, r.ahead) {
		r.wg.Go(r.fetch)
	}
}

// Stop ends the reading ahead and gives its memory back. No read of the files may be going on.
func (r *Reader) Stop() {
	for f := range r.byFile {
		f.reader.CompareAndSwap(r, nil)
	}
	r.mu.Lock()
	r.closed = true
	r.cond.Broadcast()
	r.mu.Unlock()
	r.wg.Wait()
	for _, d := range r.direct {
		if d.file != nil {
			d.file.Close()
		}
	}
	directio.Free(r.arena)
	r.arena, r.free = nil, nil
}

// looksCold looks at the begin of some blocks, as far apart as can be.
func (r *Reader) looksCold() bool {
	const places, bytes = 64, 64 << 10
	n, cold := min(places, len(r.blocks)), 0
	for i := range n {
		if b := &r.blocks[i*len(r.blocks)/n]; !r.cached(b.file, b.off, min(b.n, bytes)) {
			cold++
		}
	}
	return 2*cold > n
}

// fetch looks at block after block and reads those that are not cached.
func (r *Reader) fetch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for !r.closed && r.next < len(r.blocks) && !r.hasSlot() {
			r.cond.Wait()
		}
		if r.closed || r.next == len(r.blocks) {
			return
		}
		i := r.next
		b := &r.blocks[i]
		r.next++
		if b.state != waiting {
			continue
		}
		b.state = reading
		slot := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		r.mu.Unlock()
		data := r.load(b, slot)
		r.mu.Lock()
		if data != nil {
			b.state, b.slot, b.data = held, slot, data
			r.held = append(r.held, i)
			r.bytes += b.n
		} else {
			b.state = plain
			r.free = append(r.free, slot)
		}
		r.cond.Broadcast()
	}
}

// hasSlot reports whether a slot is free. The memory is asked for with the first; none means that nothing is read ahead.
func (r *Reader) hasSlot() bool {
	if r.arena == nil {
		arena, free, err := directio.Slots(r.ahead, slotSize)
		if err != nil {
			for i := r.next; i < len(r.blocks); i++ {
				r.blocks[i].state = plain
			}
			r.next = len(r.blocks)
			r.cond.Broadcast()
			return false
		}
		r.arena, r.free = arena, free
	}
	return len(r.free) > 0
}

// load reads a block into slot, nil if that is better left to the program.
func (r *Reader) load(b *block, slot []byte) []byte {
	if r.cached(b.file, b.off, b.n) {
		return nil
	}
	d := r.direct[b.file]
	d.once.Do(func() { d.file, _ = r.open(b.file) }) // without O_DIRECT there is the other way
	if d.file == nil {
		return nil
	}
	before := b.off % align
	size := (before + b.n + align - 1) / align * align
	n, _ := d.file.ReadAt(slot[:size], b.off-before) // at the end of the file it is less; an error comes again in the other way
	if int64(n) < before+b.n {
		return nil
	}
	return slot[before : before+b.n]
}

// readAt fills p with the bytes of f at off, piece by piece as they lie in blocks.
func (r *Reader) readAt(f *File, p []byte, off int64) (int, error) {
	list := r.byFile[f]
	at, _ := slices.BinarySearchFunc(list, off, func(i int, off int64) int {
		if b := &r.blocks[i]; b.off+b.n <= off {
			return -1
		}
		return 1
	})
	done, from := 0, 0 // p[from:done] is still to be read by the program
	for ; at < len(list) && done < len(p); at++ {
		b := &r.blocks[list[at]]
		if b.off >= off+int64(len(p)) {
			break
		}
		begin := max(b.off, off)
		n := int(min(b.off+b.n, off+int64(len(p))) - begin)
		done = int(begin - off)
		if data := r.take(list[at]); data != nil {
			if from < done {
				if n, err := f.File.ReadAt(p[from:done], off+int64(from)); err != nil {
					r.give(list[at], 0)
					return from + n, err
				}
			}
			copy(p[done:done+n], data[begin-b.off:])
			r.give(list[at], int64(n))
			from = done + n
		}
		done += n
	}
	if from == len(p) {
		return len(p), nil
	}
	n, err := f.File.ReadAt(p[from:], off+int64(from))
	return from + n, err
}

// take gives the bytes of block i once they are there, until give; nil if the program is to read them.
func (r *Reader) take(i int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.blocks[i]
	for {
		switch {
		case b.state == held:
			b.users++
			return b.data
		case b.state == plain || r.closed || b.state == waiting && i >= r.next+r.ahead:
			return nil
		case b.state == waiting && len(r.free) == 0:
			r.drop(i)
		}
		if b.state == waiting || b.state == reading {
			r.cond.Wait()
		}
	}
}

// drop frees the oldest block that is held for nobody, if the program has gone past it, for block i.
func (r *Reader) drop(i int) {
	for _, j := range r.held {
		if j < i && r.blocks[j].users == 0 {
			r.release(j)
			return
		}
	}
}

// give ends the use of block i, of which n bytes were copied.
func (r *Reader) give(i int, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.blocks[i]
	b.users--
	b.left -= n
	if b.users > 0 {
		return
	}
	if b.left <= 0 {
		r.release(i)
	} else {
		r.cond.Broadcast() // it may be dropped now
	}
}

// release frees the slot of block i.
func (r *Reader) release(i int) {
	b := &r.blocks[i]
	r.free = append(r.free, b.slot)
	b.state, b.slot, b.data = plain, nil, nil
	r.held = slices.DeleteFunc(r.held, func(j int) bool { return j == i })
	r.cond.Broadcast()
}
