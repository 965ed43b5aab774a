package atomicfile

import (
	"os"
	"sync"
	"sync/atomic"
)

// earlyBytes are written before the disk is told to begin.
const earlyBytes = 32 << 20

// early has the disk take what was written while more is computed, so that the sync at the end finds little to do.
// Without it the kernel waits for memory to fill.
type early struct {
	pending atomic.Int64 // bytes since the disk was told last
	busy    atomic.Bool
	running sync.WaitGroup
}

// wrote counts n bytes and begins in the background when there are enough.
func (e *early) wrote(f *os.File, n int) {
	if e.pending.Add(int64(n)) < earlyBytes || !e.busy.CompareAndSwap(false, true) {
		return
	}
	e.pending.Store(0)
	e.running.Go(func() {
		startWriteback(f)
		e.busy.Store(false)
	})
}

// wait waits for the background; nothing may be written any more.
func (e *early) wait() { e.running.Wait() }
