package llama

import "sync"

// refs counts the users of a C object that many goroutines and other objects
// share: calls in progress, and everything made from it. The object is freed
// when it was closed and the last user has let go.
type refs struct {
	mu     sync.Mutex
	n      int // users besides the owner
	closed bool
	broken bool
	free   func()
}

// acquire adds a user, unless the object is closed.
func (r *refs) acquire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return ErrClosed
	case r.broken:
		return ErrBroken
	}
	r.n++
	return nil
}

// retain adds a user on behalf of one that is there already, closed or not.
func (r *refs) retain() {
	r.mu.Lock()
	r.n++
	r.mu.Unlock()
}

// release lets go of one acquire.
func (r *refs) release() {
	r.mu.Lock()
	r.n--
	last := r.closed && r.n == 0 && !r.broken
	r.mu.Unlock()
	if last {
		r.free()
	}
}

// close gives up the owner's hold. The second call does nothing.
func (r *refs) close() {
	r.mu.Lock()
	last := !r.closed && r.n == 0 && !r.broken
	r.closed = true
	r.mu.Unlock()
	if last {
		r.free()
	}
}
