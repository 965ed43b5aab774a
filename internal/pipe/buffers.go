package pipe

import (
	"math/bits"
	"sync"
)

// Buffers recycles byte slices of varying length. The zero value is ready, and
// it is safe for concurrent use. What is not taken again is freed by the
// garbage collector.
type Buffers struct {
	pools [4 * 64]sync.Pool // by size class: four classes between two powers of two
}

// Get returns a slice of length n with arbitrary content.
func (b *Buffers) Get(n int) []byte {
	if n == 0 {
		return nil
	}
	class, size := sizeClass(n)
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, n, size)
}

// Put gives p back for reuse; the caller must not touch it afterwards. A slice
// that did not come from Get is dropped.
func (b *Buffers) Put(p []byte) {
	if cap(p) == 0 {
		return
	}
	class, size := sizeClass(cap(p))
	if size != cap(p) {
		return
	}
	p = p[:size]
	b.pools[class].Put(&p)
}

// sizeClass returns the class of a length and the capacity of that class's
// slices: 5, 6, 7 or 8 times a power of two, at most a quarter above n (n ≥ 5).
func sizeClass(n int) (class, size int) {
	last := max(n, 5) - 1
	shift := max(0, bits.Len(uint(last))-3)
	units := last>>shift + 1 // 5 … 8
	return shift*4 + units - 5, units << shift
}
