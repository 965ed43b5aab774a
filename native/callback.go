package llama

/*
#include <stdint.h>
*/
import "C"

import (
	"runtime/cgo"
	"sync/atomic"
)

// The functions that C calls. Their user data is a cgo handle, never a Go
// pointer. A panic in a callback does not cross C: it stops the operation and
// is raised again in the goroutine that made the call (callback.raise).

// callback is what a handle refers to: one Go function and its panic, if it had one.
type callback struct {
	progress func(float32) bool
	abort    func() bool
	line     func(level int, text string) bool
	panicked atomic.Pointer[any]
}

// protect is deferred around a callback's body.
func (c *callback) protect() {
	if p := recover(); p != nil {
		c.panicked.CompareAndSwap(nil, &p)
	}
}

// raise panics with what the callback panicked with.
func (c *callback) raise() {
	if p := c.panicked.Load(); p != nil {
		panic(*p)
	}
}

func callbackOf(h C.uintptr_t) *callback {
	return cgo.Handle(h).Value().(*callback)
}

func toC(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}

//export nlGoLog
func nlGoLog(level C.int32_t, text *C.char) {
	f := logger.Load()
	if f == nil {
		return
	}
	defer func() { _ = recover() }() // a logger must not end what it watches
	(*f)(int(level), C.GoString(text))
}

//export nlGoLoadProgress
func nlGoLoadProgress(progress C.float, h C.uintptr_t) (goOn C.int32_t) {
	c := callbackOf(h)
	defer c.protect() // a panic leaves goOn 0
	return toC(c.progress(float32(progress)))
}

//export nlGoAbort
func nlGoAbort(h C.uintptr_t) (stop C.int32_t) {
	c := callbackOf(h)
	stop = 1
	defer c.protect()
	return toC(c.abort())
}

//export nlGoQuantizeLog
func nlGoQuantizeLog(h C.uintptr_t, level C.int32_t, text *C.char) (goOn C.int32_t) {
	c := callbackOf(h)
	defer c.protect() // a panic leaves goOn 0
	return toC(c.line(int(level), C.GoString(text)))
}
