package pipe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// noGoroutineLeft fails when a goroutine that began during the test lives on.
// Goroutines of the runtime may take a moment to leave the list, hence the loop.
func noGoroutineLeft(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		buf := make([]byte, 1<<20)
		var stacks string
		for range 1000 {
			stacks = string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(stacks, "pipe.(*queue") {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("a goroutine of the run is left:\n%s", stacks)
	})
}

func unit(int) int64 { return 1 }

func TestOrderedEmitsInOrder(t *testing.T) {
	noGoroutineLeft(t)
	for _, workers := range []int{1, 2, 7, 0} {
		for _, n := range []int{0, 1, 2, 100} {
			var got []int
			err := Ordered(t.Context(), Options{Workers: workers, Budget: 5}, n, unit,
				func(_ context.Context, i int) (int, error) {
					if rand.IntN(3) == 0 {
						time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
					}
					return i * i, nil
				},
				func(i, v int) error {
					if v != i*i {
						t.Errorf("item %d: got %d, want %d", i, v, i*i)
					}
					got = append(got, i)
					return nil
				})
			if err != nil {
				t.Fatalf("workers %d, n %d: %v", workers, n, err)
			}
			if len(got) != n || !slices.IsSorted(got) {
				t.Errorf("workers %d, n %d: emitted %v", workers, n, got)
			}
		}
	}
}

// The cost of all items begun and not emitted never exceeds the budget, except
// while an item larger than the budget runs, and then it is the only one.
func TestOrderedKeepsBudget(t *testing.T) {
	noGoroutineLeft(t)
	costs := make([]int64, 200)
	for i := range costs {
		costs[i] = rand.Int64N(40)
	}
	costs[0], costs[57], costs[199] = 1000, 101, 5000
	const budget = 100
	var mu sync.Mutex
	var bytes int64
	items, most := 0, int64(0)
	err := Ordered(t.Context(), Options{Workers: 6, Budget: budget}, len(costs), func(i int) int64 { return costs[i] },
		func(_ context.Context, i int) (int, error) {
			mu.Lock()
			bytes, items = bytes+costs[i], items+1
			most = max(most, bytes)
			if bytes > budget && items > 1 && bytes != costs[i] {
				t.Errorf("item %d: %d bytes in %d items are in flight, budget %d", i, bytes, items, budget)
			}
			mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
			return i, nil
		},
		func(i, _ int) error {
			mu.Lock()
			bytes, items = bytes-costs[i], items-1
			mu.Unlock()
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if most != 5000 || bytes != 0 || items != 0 {
		t.Errorf("most bytes in flight %d, left %d in %d items; want 5000, 0, 0", most, bytes, items)
	}
}

// With room for all, as many items run at once as there are workers.
func TestOrderedRunsInParallel(t *testing.T) {
	noGoroutineLeft(t)
	const workers = 4
	var wg sync.WaitGroup
	wg.Add(workers)
	err := Ordered(t.Context(), Options{Workers: workers}, workers, unit,
		func(context.Context, int) (struct{}, error) {
			wg.Done()
			wg.Wait() // hangs unless all four are here
			return struct{}{}, nil
		},
		func(int, struct{}) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func TestOrderedFirstWorkErrorWins(t *testing.T) {
	noGoroutineLeft(t)
	first := errors.New("first")
	emitted := 0
	err := Ordered(t.Context(), Options{Workers: 4, Budget: 100}, 1000, unit,
		func(ctx context.Context, i int) (int, error) {
			switch {
			case i < 10:
				return i, nil
			case i == 10:
				return 0, first
			}
			<-ctx.Done() // must be cancelled by the error
			return 0, fmt.Errorf("item %d: %w", i, ctx.Err())
		},
		func(i, v int) error { emitted++; return nil })
	if err != first {
		t.Errorf("got %v, want the first error", err)
	}
	if emitted > 10 {
		t.Errorf("%d items emitted, the item 10 failed", emitted)
	}
}

func TestOrderedEmitErrorWins(t *testing.T) {
	noGoroutineLeft(t)
	full := errors.New("disk full")
	var begun atomic.Int64
	err := Ordered(t.Context(), Options{Workers: 3, Budget: 8}, 1000, unit,
		func(ctx context.Context, i int) (int, error) { begun.Add(1); return i, nil },
		func(i, v int) error {
			if i == 5 {
				return full
			}
			if i > 5 {
				t.Errorf("item %d emitted after the error", i)
			}
			return nil
		})
	if err != full {
		t.Errorf("got %v, want %v", err, full)
	}
	if b := begun.Load(); b > 5+8 {
		t.Errorf("%d items begun, want at most 13 with a budget of 8", b)
	}
}

func TestOrderedCancel(t *testing.T) {
	noGoroutineLeft(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := Ordered(ctx, Options{Workers: 3, Budget: 4}, 1000, unit,
		func(ctx context.Context, i int) (int, error) {
			if i == 20 {
				cancel()
				<-ctx.Done()
			}
			return i, nil
		},
		func(i, v int) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	called := false
	err = Ordered(ctx, Options{}, 1, unit, func(context.Context, int) (int, error) { called = true; return 0, nil },
		func(int, int) error { return nil })
	if !errors.Is(err, context.Canceled) || called {
		t.Errorf("already cancelled: got %v, work called %v", err, called)
	}
}

func TestOrderedCancelWhileEmitting(t *testing.T) {
	noGoroutineLeft(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := Ordered(ctx, Options{Workers: 2}, 10, unit,
		func(_ context.Context, i int) (int, error) { return i, nil },
		func(i, v int) error {
			cancel()
			if i > 0 {
				return errors.New("emitted after the cancel was seen")
			}
			return nil
		})
	// The hook of the context runs beside us: the last word may be either's, but never success.
	if err == nil {
		t.Error("no error after a cancel")
	}
}

// TestOrderedEndsWithEmit cancels in an emit when all the work is done: nothing is emitted after it.
func TestOrderedEndsWithEmit(t *testing.T) {
	const n = 50
	ctx, cancel := context.WithCancel(t.Context())
	var worked sync.WaitGroup
	worked.Add(n)
	last := -1
	err := Ordered(ctx, Options{Workers: 2}, n, func(int) int64 { return 1 },
		func(_ context.Context, i int) (int, error) {
			worked.Done()
			return i, nil
		},
		func(i, _ int) error {
			worked.Wait()
			if last = i; i == 10 {
				cancel()
			}
			return nil
		})
	if !errors.Is(err, context.Canceled) || last != 10 {
		t.Errorf("got %v after item %d, want context.Canceled after 10", err, last)
	}
}

func TestOrderedPanicsReachTheCaller(t *testing.T) {
	catch := func(f func() error) (v any) {
		defer func() { v = recover() }()
		_ = f()
		return nil
	}
	t.Run("work", func(t *testing.T) {
		noGoroutineLeft(t)
		v := catch(func() error {
			return Ordered(t.Context(), Options{Workers: 3}, 10, unit,
				func(_ context.Context, i int) (int, error) {
					if i == 4 {
						panic("bad work")
					}
					return i, nil
				}, func(int, int) error { return nil })
		})
		p, ok := v.(*Panic)
		if !ok || p.Value != "bad work" || !strings.Contains(p.String(), "pipe_test.go") {
			t.Errorf("got %v, want a *Panic with the value and the worker's stack", v)
		}
	})
	t.Run("emit", func(t *testing.T) {
		noGoroutineLeft(t)
		v := catch(func() error {
			return Ordered(t.Context(), Options{Workers: 3}, 10, unit,
				func(_ context.Context, i int) (int, error) { return i, nil },
				func(i, v int) error { panic("bad emit") })
		})
		if v != "bad emit" {
			t.Errorf("got %v, want the panic of emit", v)
		}
	})
	t.Run("Goexit", func(t *testing.T) {
		noGoroutineLeft(t)
		err := Ordered(t.Context(), Options{Workers: 3}, 10, unit,
			func(_ context.Context, i int) (int, error) { runtime.Goexit(); return 0, nil },
			func(i, v int) error { return nil })
		if err != errGoexit {
			t.Errorf("got %v, want %v", err, errGoexit)
		}
	})
}

func TestBuffers(t *testing.T) {
	var b Buffers
	for n := 0; n < 70000; n += 1 + n/50 {
		p := b.Get(n)
		if len(p) != n {
			t.Fatalf("Get(%d): length %d", n, len(p))
		}
		if n >= 5 && cap(p) > n+n/4+1 {
			t.Errorf("Get(%d): capacity %d, want at most a quarter more", n, cap(p))
		}
		b.Put(p)
	}
	b.Put(make([]byte, 9)) // not from Get: must not be handed out as a larger class
	if p := b.Get(10); cap(p) < 10 {
		t.Errorf("capacity %d", cap(p))
	}
}

// Two holders never see the same memory.
func TestBuffersAreNotShared(t *testing.T) {
	var b Buffers
	var wg sync.WaitGroup
	for g := range byte(4) {
		wg.Go(func() {
			for k := range 2000 {
				p := b.Get(64 + k%50)
				for i := range p {
					p[i] = g
				}
				runtime.Gosched()
				for i := range p {
					if p[i] != g {
						t.Errorf("buffer of goroutine %d holds %d", g, p[i])
						return
					}
				}
				b.Put(p)
			}
		})
	}
	wg.Wait()
}

func TestSplit(t *testing.T) {
	for budget, want := range map[int64][2]int64{0: {128 << 20, 384 << 20}, -1: {128 << 20, 384 << 20}, 7: {1, 6}, 1 << 30: {256 << 20, 768 << 20}} {
		if ahead, items := Split(budget); ahead != want[0] || items != want[1] {
			t.Errorf("%d: got %d and %d, want %d", budget, ahead, items, want)
		}
	}
}
