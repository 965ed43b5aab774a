package llama

import (
	"errors"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// TestImportance: rows are counted for every weight of the blocks, sums of two decodes add up, and closing in any
// order is fine. What the sums are is compared with a computation in Go in package eval of the module around this one.
func TestImportance(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	i, err := NewImportance()
	if err != nil {
		t.Fatal(err)
	}
	p := DefaultContextParams()
	p.NCtx, p.Threads, p.Importance = 64, 1, i
	c, err := m.NewContext(p)
	if err != nil {
		t.Fatal(err)
	}
	tokens := mustTokens(t, m, "who are you?")
	var last []ImportanceEntry
	for round := 1; round <= 2; round++ {
		if err := c.MemoryClear(false); err != nil {
			t.Fatal(err)
		}
		if err := c.DecodeTokens(tokens, 0, 0, LogitsAll); err != nil {
			t.Fatal(err)
		}
		entries, err := i.Entries()
		if err != nil || len(entries) < 7 {
			t.Fatalf("got %d entries, %v", len(entries), err)
		}
		for k, e := range entries {
			if len(e.Counts) != 1 || int(e.Counts[0]) != round*len(tokens) || len(e.Sums) == 0 {
				t.Errorf("round %d: %s: got counts %v, want %d", round, e.Name, e.Counts, round*len(tokens))
			}
			for j := range e.Sums {
				if last != nil && (e.Sums[j] < 1.999*last[k].Sums[j] || e.Sums[j] > 2.001*last[k].Sums[j]) {
					t.Fatalf("%s: got %v after %v, want twice as much", e.Name, e.Sums[j], last[k].Sums[j])
				}
			}
		}
		last = entries
	}
	i.Close()
	i.Close()
	if _, err := i.Entries(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	if err := c.DecodeTokens(tokens[:1], 0, int32(len(tokens)), LogitsAll); err != nil { // the context still has it
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.NewContext(p); !errors.Is(err, ErrClosed) {
		t.Errorf("a context with a closed one: got %v", err)
	}
	var none *Importance
	none.Close()
	if _, err := none.Entries(); !errors.Is(err, ErrClosed) {
		t.Errorf("nil: got %v", err)
	}
}
