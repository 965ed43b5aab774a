package gen

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
)

// The search for how many calls at once an engine can use: doubled as long as that makes it faster by enough.
const (
	maxParallel = 128 // of one engine
	worthIt     = 1.15
	perLevel    = 3 // calls, in multiples of those at once, that a level is judged by
)

// pool shares calls out among engines, each with a limit of its own. Its methods may be called from several
// goroutines.
type pool struct {
	wait time.Duration // how long all may be gone
	warn func(string)

	mu      sync.Mutex
	slots   []*slot
	changed chan struct{}
}

// slot is an engine in the pool.
type slot struct {
	Engine
	limit   int  // calls at once
	fixed   bool // the limit is not searched for
	running int

	down  bool
	since time.Time // when it was last seen to answer; while down
	again time.Time // when to look whether it is back
	delay time.Duration

	level struct { // of the search
		begun  time.Time
		calls  int
		tokens int
		best   float64 // tokens per second of the level before
	}
}

func newPool(engines []Engine, infos []engine.Info, parallel int, wait time.Duration, warn func(string)) *pool {
	p := &pool{wait: wait, warn: warn, changed: make(chan struct{})}
	for i, e := range engines {
		s := &slot{Engine: e, limit: 1}
		switch {
		case parallel > 0: // shared out, the first ones get one more
			s.fixed, s.limit = true, max((parallel+len(engines)-1-i)/len(engines), 1)
		case infos[i].Parallel > 0:
			s.fixed, s.limit = true, infos[i].Parallel
		}
		p.slots = append(p.slots, s)
	}
	return p
}

// size is how many calls can be under way at most, and how many can be now.
func (p *pool) size() (most, now int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		now += s.limit
		if s.fixed {
			most += s.limit
		} else {
			most += maxParallel
		}
	}
	return most, now
}

func (p *pool) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// acquire waits for an engine with room. It must be given back with release.
func (p *pool) acquire(ctx context.Context) (*slot, error) {
	for {
		s, wait, changed := p.choose()
		if s != nil {
			return s, nil
		}
		if wait < 0 {
			return nil, ErrNoServer
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p.revive(ctx)
	}
}

// choose takes the engine with most room; else it says how long to wait, less than 0 if all have been gone for too
// long.
func (p *pool) choose() (*slot, time.Duration, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var best *slot
	wait, gone := time.Hour, true
	for _, s := range p.slots {
		if s.down {
			wait = min(wait, max(s.again.Sub(now), time.Millisecond))
			gone = gone && now.Sub(s.since) > p.wait
			continue
		}
		gone = false
		if s.running < s.limit && (best == nil || s.limit-s.running > best.limit-best.running) {
			best = s
		}
	}
	if gone {
		return nil, -1, nil
	}
	if best != nil {
		best.running++
	}
	return best, wait, p.changed
}

// revive looks whether an engine that was gone is back; one caller at a time for each.
func (p *pool) revive(ctx context.Context) {
	p.mu.Lock()
	var ask []*slot
	for _, s := range p.slots {
		if s.down && !time.Now().Before(s.again) {
			s.delay = min(2*s.delay, 15*time.Second)
			s.again = time.Now().Add(s.delay)
			ask = append(ask, s)
		}
	}
	p.mu.Unlock()
	for _, s := range ask {
		aliveCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := s.Alive(aliveCtx)
		cancel()
		p.mu.Lock()
		if err == nil && s.down {
			s.down = false
			p.warn(fmt.Sprintf("%s: answers again", s.Name()))
			p.wake()
		}
		p.mu.Unlock()
	}
}

// release gives an engine back, with what the call brought.
func (p *pool) release(s *slot, reply engine.Reply, failed *engine.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.running--
	switch {
	case failed != nil && failed.Down:
		if !s.down {
			s.down, s.since, s.delay = true, time.Now(), 200*time.Millisecond
			s.again = s.since.Add(s.delay)
			p.warn(fmt.Sprintf("%s: gone: %v", s.Name(), failed))
		}
	case failed == nil && !s.fixed:
		s.judge(reply, time.Now())
	}
	p.wake()
}

// judge counts a reply for the search. A level begins with its first reply, so that loading the model and the last
// calls of the level before do not count.
func (s *slot) judge(reply engine.Reply, now time.Time) {
	l := &s.level
	if l.begun.IsZero() {
		l.begun = now
		return
	}
	l.calls++
	l.tokens += max(reply.Tokens, 1)
	if l.calls < perLevel*s.limit {
		return
	}
	rate := float64(l.tokens) / max(now.Sub(l.begun).Seconds(), 1e-6)
	if rate < worthIt*l.best || s.limit >= maxParallel {
		s.fixed = true // one level more than needed keeps the server's queue from running dry
		return
	}
	l.best, l.begun, l.calls, l.tokens = rate, time.Time{}, 0, 0
	s.limit *= 2
}
