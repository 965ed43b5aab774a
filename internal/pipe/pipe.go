// Package pipe runs work on several goroutines within a byte budget and hands
// the results over in input order.
package pipe

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// DefaultBudget is the number of bytes in flight when [Options.Budget] is 0.
const DefaultBudget = 512 << 20

// Options bounds a run.
type Options struct {
	Workers int   // goroutines that work; 0 means GOMAXPROCS
	Budget  int64 // bytes of the items that are begun and not yet emitted; 0 means DefaultBudget
}

// Split divides a budget, 0 meaning DefaultBudget, into a quarter for what is read ahead of
// the workers and the rest, for the items.
func Split(budget int64) (ahead, items int64) {
	if budget <= 0 {
		budget = DefaultBudget
	}
	return budget / 4, budget - budget/4
}

// Panic is the value with which [Ordered] panics in its caller when a work
// function panicked: the original value and the stack where it happened.
type Panic struct {
	Value any
	Stack []byte
}

// String is the original value and the worker's stack.
func (p *Panic) String() string { return fmt.Sprintf("%v\n\nworker stack:\n%s", p.Value, p.Stack) }

// Error makes the panic readable in the runtime's own report.
func (p *Panic) Error() string { return p.String() }

var errGoexit = errors.New("pipe: work ended its goroutine (runtime.Goexit)")

// Ordered calls work for the items 0 … n-1 on o.Workers goroutines and emit
// with each result in the order 0 … n-1, on the caller's goroutine.
//
// cost tells how many bytes item i holds from the begin of work until its emit
// has returned; it must be a pure function. The sum over such items stays within
// o.Budget, except that an item larger than the budget runs alone. Items begin
// in order, so that the oldest one is always among those that run.
//
// The first error of work, emit or ctx ends the run and is returned; the context
// given to work is cancelled then, and results that were not emitted are dropped.
// A panic of work continues in the caller as a *[Panic], one of emit as it is.
// When Ordered returns or panics, every goroutine that it started has ended.
func Ordered[T any](ctx context.Context, o Options, n int, cost func(i int) int64,
	work func(ctx context.Context, i int) (T, error), emit func(i int, v T) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	workCtx, cancel := context.WithCancel(ctx)
	q := &queue[T]{n: n, budget: o.Budget, cost: cost, done: map[int]result[T]{}, cancel: cancel}
	q.cond.L = &q.mu
	hookDone := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() { q.fail(ctx.Err()); close(hookDone) })

	var wg sync.WaitGroup
	for range min(o.Workers, n) {
		wg.Go(func() { q.run(workCtx, work) })
	}
	func() {
		finished := false
		defer func() { // also when emit panics
			if !finished {
				q.fail(errGoexit)
			}
			if !unhook() {
				<-hookDone
			}
			wg.Wait()
			cancel()
		}()
		q.drain(ctx, emit)
		finished = true
	}()
	if q.panicked != nil {
		panic(q.panicked)
	}
	return q.err
}

type result[T any] struct {
	v    T
	cost int64
}

// queue is the state that the workers and the emitting goroutine share.
type queue[T any] struct {
	n      int
	budget int64
	cost   func(i int) int64
	cancel context.CancelFunc

	mu       sync.Mutex
	cond     sync.Cond
	next     int               // first item not begun
	inFlight int64             // cost of the items begun and not emitted
	done     map[int]result[T] // worked and not emitted
	err      error             // the first one
	panicked *Panic
}

// fail records the first error and wakes everybody.
func (q *queue[T]) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
		q.cancel()
	}
	q.cond.Broadcast()
}

// claim waits until the next item fits and takes it; false means no more work.
func (q *queue[T]) claim() (i int, cost int64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.err == nil && q.next < q.n {
		cost = max(0, q.cost(q.next))
		if q.inFlight == 0 || cost <= q.budget-q.inFlight {
			i = q.next
			q.next++
			q.inFlight += cost
			return i, cost, true
		}
		q.cond.Wait()
	}
	return 0, 0, false
}

// run is one worker.
func (q *queue[T]) run(ctx context.Context, work func(ctx context.Context, i int) (T, error)) {
	finished := false
	defer func() {
		if finished {
			return
		}
		if v := recover(); v != nil {
			q.mu.Lock()
			if q.panicked == nil {
				q.panicked = &Panic{Value: v, Stack: debug.Stack()}
			}
			q.mu.Unlock()
		}
		q.fail(errGoexit)
	}()
	for {
		i, cost, ok := q.claim()
		if !ok {
			break
		}
		v, err := work(ctx, i)
		if err != nil {
			q.fail(err)
			break
		}
		q.mu.Lock()
		q.done[i] = result[T]{v, cost}
		q.cond.Broadcast()
		q.mu.Unlock()
	}
	finished = true
}

// drain emits the results in order until all are out, something failed, or ctx ends, also by what emit does.
func (q *queue[T]) drain(ctx context.Context, emit func(i int, v T) error) {
	for i := range q.n {
		if err := ctx.Err(); err != nil {
			q.fail(err)
			return
		}
		q.mu.Lock()
		r, ok := q.done[i]
		for !ok && q.err == nil {
			q.cond.Wait()
			r, ok = q.done[i]
		}
		failed := q.err != nil
		delete(q.done, i)
		q.mu.Unlock()
		if failed {
			return
		}
		if err := emit(i, r.v); err != nil {
			q.fail(err)
			return
		}
		q.mu.Lock()
		q.inFlight -= r.cost
		q.cond.Broadcast()
		q.mu.Unlock()
	}
}
