package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	cursorBuffer = 1 << 18 // bytes read ahead
	stringChunk  = 1 << 16 // strings of an array share allocations of this size
)

// cursor reads a file from the start, buffered, and knows how many bytes are left.
type cursor struct {
	r    io.ReaderAt
	size int64  // of the file
	base int64  // file offset of buf[0]
	buf  []byte // bytes read ahead
	pos  int    // next byte in buf
}

func newCursor(r io.ReaderAt, size int64) *cursor {
	return &cursor{r: r, size: size, buf: make([]byte, 0, min(size, cursorBuffer))}
}

// offset gives the file offset of the next byte, left the number of bytes from there to the end.
func (c *cursor) offset() int64 { return c.base + int64(c.pos) }
func (c *cursor) left() int64   { return c.size - c.offset() }

// next gives the next n ≤ cursorBuffer bytes, valid until the next call.
func (c *cursor) next(n int) ([]byte, error) {
	if int64(n) > c.left() {
		return nil, fmt.Errorf("truncated: got %d bytes at offset %d, want %d", c.left(), c.offset(), n)
	}
	if len(c.buf)-c.pos < n {
		c.base += int64(c.pos)
		c.buf = c.buf[:min(int64(cap(c.buf)), c.size-c.base)]
		c.pos = 0
		if err := readFull(c.r, c.buf, c.base); err != nil {
			return nil, err
		}
	}
	p := c.buf[c.pos : c.pos+n]
	c.pos += n
	return p, nil
}

// readFull reads len(p) bytes at off; a file that became shorter is an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", len(p), off, err)
}

func (c *cursor) uint32() (uint32, error) {
	p, err := c.next(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(p), nil
}

func (c *cursor) uint64() (uint64, error) {
	p, err := c.next(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p), nil
}

// count reads a u64 that says how many things of at least size bytes follow,
// and checks it against the bytes left and against limit.
func (c *cursor) count(what string, size, limit int64) (int64, error) {
	n, err := c.uint64()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if n > uint64(limit) {
		return 0, fmt.Errorf("%s: got %d, want at most %d", what, n, limit)
	}
	if most := c.left() / size; int64(n) > most {
		return 0, fmt.Errorf("%s: got %d, want at most %d in the %d bytes left", what, n, most, c.left())
	}
	return int64(n), nil
}

// string reads a string of at most limit bytes.
func (c *cursor) string(limit int64) (string, error) {
	n, err := c.count("string length", 1, limit)
	if err != nil {
		return "", err
	}
	if n <= cursorBuffer {
		p, err := c.next(int(n))
		return string(p), err
	}
	var b strings.Builder
	b.Grow(int(n))
	err = c.copyTo(&b, n)
	return b.String(), err
}

// copyTo appends the next n bytes to b.
func (c *cursor) copyTo(b *strings.Builder, n int64) error {
	for n > 0 {
		p, err := c.next(int(min(n, cursorBuffer)))
		if err != nil {
			return err
		}
		b.Write(p)
		n -= int64(len(p))
	}
	return nil
}

func readString(c *cursor) (any, error) { return c.string(MaxStringLen) }

// readStrings reads n strings. A vocabulary has hundreds of thousands of short
// ones, so they are cut from common chunks instead of being allocated one by one.
func readStrings(c *cursor, n int64) (any, error) {
	out := make([]string, n)
	chunk, room := new(strings.Builder), 0
	for i := range out {
		length, err := c.count("string length", 1, MaxStringLen)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		if int(length) > room {
			chunk, room = new(strings.Builder), max(int(length), stringChunk)
			chunk.Grow(room)
		}
		start := chunk.Len()
		if err := c.copyTo(chunk, length); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		room -= int(length)
		out[i] = chunk.String()[start:]
	}
	return out, nil
}

func readBool(c *cursor) (any, error) {
	p, err := c.next(1)
	if err != nil {
		return nil, err
	}
	if p[0] > 1 {
		return nil, fmt.Errorf("bool: got byte %d, want 0 or 1", p[0])
	}
	return p[0] == 1, nil
}

func readBools(c *cursor, n int64) (any, error) {
	out := make([]bool, n)
	for i := range out {
		v, err := readBool(c)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = v.(bool)
	}
	return out, nil
}

// number is a plain value: everything but bool, string and array.
type number interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64
}

func readScalar[T number](c *cursor) (any, error) {
	var v T
	p, err := c.next(binary.Size(v))
	if err != nil {
		return nil, err
	}
	_, err = binary.Decode(p, binary.LittleEndian, &v)
	return v, err
}

// readArray reads n numbers, whose bytes count has found to be there.
func readArray[T number](c *cursor, n int64) (any, error) {
	var zero T
	size := binary.Size(zero)
	out := make([]T, n)
	for rest := out; len(rest) > 0; {
		part := rest[:min(len(rest), cursorBuffer/8)]
		p, err := c.next(len(part) * size)
		if err != nil {
			return nil, err
		}
		if _, err := binary.Decode(p, binary.LittleEndian, part); err != nil {
			return nil, err
		}
		rest = rest[len(part):]
	}
	return out, nil
}
