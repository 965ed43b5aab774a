package lora

import "sync"

// cacheBytes bounds the right factors held as float32. A row of pieces in flight
// needs a few of them; one that is larger is held alone.
const cacheBytes = 64 << 20

// cache holds the factors used last.
type cache struct {
	mu    sync.Mutex
	held  map[*right]*cached
	clock int64
	bytes int64
}

type cached struct {
	once sync.Once
	v    []float32
	err  error
	used int64
}

// get gives a factor, loading it if need be; the slice must not be written to.
func (c *cache) get(m *right) ([]float32, error) {
	c.mu.Lock()
	e := c.held[m]
	if e == nil {
		for c.bytes > 0 && c.bytes+m.bytes() > cacheBytes {
			c.drop()
		}
		if c.held == nil {
			c.held = map[*right]*cached{}
		}
		e = new(cached)
		c.held[m] = e
		c.bytes += m.bytes()
	}
	c.clock++
	e.used = c.clock
	c.mu.Unlock()
	e.once.Do(func() { e.v, e.err = m.load() })
	return e.v, e.err
}

// drop forgets the factor that was used longest ago.
func (c *cache) drop() {
	var oldest *right
	for m, e := range c.held {
		if oldest == nil || e.used < c.held[oldest].used {
			oldest = m
		}
	}
	delete(c.held, oldest)
	c.bytes -= oldest.bytes()
}
