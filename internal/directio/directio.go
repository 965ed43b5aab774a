// Package directio is what reading and writing past the page cache (O_DIRECT) have in common.
package directio

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Align is what offsets, lengths and memory are multiples of: no disk wants more. In bytes.
const Align = 4096

// Open opens an open file again, with O_DIRECT and flag (os.O_RDONLY or os.O_WRONLY). Where that cannot be, the error
// wraps [errors.ErrUnsupported].
func Open(f *os.File, flag int) (*os.File, error) {
	d, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flag|unix.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return d, nil
}

// Slots asks the system for n pieces of aligned memory of size bytes each, size being a multiple of Align, which lie one
// after the other in arena. It is given back with [Free].
func Slots(n, size int) (arena []byte, slots [][]byte, err error) {
	arena, err = unix.Mmap(-1, 0, n*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("%d bytes of memory: %w", n*size, err)
	}
	for i := range n {
		slots = append(slots, arena[i*size:(i+1)*size:(i+1)*size])
	}
	return arena, slots, nil
}

// Free gives an arena of [Slots] back; nil is none.
func Free(arena []byte) {
	if arena != nil {
		_ = unix.Munmap(arena) // it is ours, and whole
	}
}
