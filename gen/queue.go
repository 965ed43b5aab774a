package gen

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/journal"
)

// call is one question to an engine, for one dialogue or for some scenes of a paragraph.
type call struct {
	group       *group
	jobs        []*job // those that still have no answer
	attempt     int    // of all calls for these jobs; it makes the seed
	bad         int    // answers in a row of which nothing was taken
	failed      int    // calls in a row without an answer
	tries       []journal.Try
	best        *answered // a truncated dialogue that is better than nothing
	notBefore   time.Time
	lastRefused string // the reason of the last try
}

// queue hands out calls: those that wait for a time after it, the others in order. Its methods may be called from
// several goroutines.
type queue struct {
	mu      sync.Mutex
	ready   []*call
	delayed []*call
	running int
	changed chan struct{} // closed and replaced whenever something changes
}

func newQueue(calls []*call) *queue { return &queue{ready: calls, changed: make(chan struct{})} }

// next waits for a call that may be made now. It gives nil when all is done or ctx is.
func (q *queue) next(ctx context.Context) *call {
	for {
		c, wait, changed := q.take()
		if c != nil || changed == nil || ctx.Err() != nil {
			return c
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take gives a call that is due; else how long the next one takes to be, and what tells of changes. changed is nil
// when nothing is left.
func (q *queue) take() (c *call, wait time.Duration, changed chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait = time.Hour
	now := time.Now()
	for i, c := range q.delayed {
		left := c.notBefore.Sub(now)
		if left <= 0 {
			q.delayed = slices.Delete(q.delayed, i, i+1)
			q.running++
			return c, 0, q.changed
		}
		wait = min(wait, left)
	}
	if len(q.ready) > 0 {
		c, q.ready = q.ready[0], q.ready[1:]
		q.running++
		return c, 0, q.changed
	}
	if len(q.delayed) == 0 && q.running == 0 {
		return nil, 0, nil
	}
	return nil, wait, q.changed
}

// done says that a call that was taken is through. again is one to be made because of it, or nil.
func (q *queue) done(again *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if again != nil {
		q.delayed = append(q.delayed, again)
	}
	close(q.changed)
	q.changed = make(chan struct{})
}
