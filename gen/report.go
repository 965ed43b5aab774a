package gen

import (
	"math"
	"path/filepath"
	"slices"
	"time"
)

// Report is what there is after a run.
type Report struct {
	Kind    string         `json:"kind"`
	Run     string         `json:"run"`
	Journal string         `json:"journal"`
	Output  string         `json:"output"`
	Own     string         `json:"own,omitempty"` // file of this run's answers only
	Jobs    int            `json:"jobs"`
	Done    int            `json:"done"`
	Fresh   int            `json:"done_now"` // by this run of the program
	Open    int            `json:"open"`
	Failed  int            `json:"failed"`  // tries used up, by this run of the program
	Reasons map[string]int `json:"reasons"` // of failures
	Keys    []string       `json:"open_keys"`
	Kinds   map[string]int `json:"kinds"`

	NumCtx     int     `json:"num_ctx"`
	Parallel   int     `json:"parallel"`
	Seconds    float64 `json:"seconds"`
	PerMinute  float64 `json:"per_minute"`
	EvalTokens int64   `json:"eval_count"`

	BackgroundMean float64 `json:"background_mean"` // code points, of scenes
	BackgroundMin  int     `json:"background_min"`
	// UnknownTypes counts scenes whose type is not on the card.
	UnknownTypes map[string]int `json:"unknown_types,omitempty"`
	// Duplicates are the groups with near-duplicates among this run's answers, the worst first.
	Duplicates []Duplicates `json:"near_duplicates"`
	Stopped    string       `json:"stopped,omitempty"` // why the run ended early
}

// Duplicates counts the near-duplicates of a paragraph or scene.
type Duplicates struct {
	Group string `json:"group"`
	N     int    `json:"n"`
	Of    int    `json:"of"`
	Ended bool   `json:"ended"` // no more are asked for
}

// lengths sums up lengths of texts.
type lengths struct{ n, sum, min int }

func (l *lengths) add(n int) {
	if l.n == 0 || n < l.min {
		l.min = n
	}
	l.n++
	l.sum += n
}

// maxListed is how many groups with duplicates a report lists.
const maxListed = 20

func (r *run) summary() *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	seconds := time.Since(r.began).Seconds()
	rep := &Report{
		Kind: string(r.o.Kind), Run: r.plan.run, Journal: r.journal.Path(), Output: filepath.Join(r.o.Root, filepath.FromSlash(r.entry.Output)),
		Jobs: len(r.plan.jobs), Done: r.done, Fresh: r.fresh, Open: len(r.plan.jobs) - r.done, Failed: r.failed, Reasons: r.reasons,
		Kinds: r.kinds, NumCtx: r.numCtx, Seconds: seconds, PerMinute: 60 * float64(r.fresh) / max(seconds, 1e-3), EvalTokens: r.tokens,
		BackgroundMin: r.lengths.min, UnknownTypes: r.types, Keys: []string{}, Duplicates: []Duplicates{},
	}
	if r.pool != nil {
		_, rep.Parallel = r.pool.size()
	}
	if r.lengths.n > 0 {
		rep.BackgroundMean = math.Round(float64(r.lengths.sum)/float64(r.lengths.n)*10) / 10
	}
	for _, j := range r.plan.jobs {
		if !j.done {
			rep.Keys = append(rep.Keys, j.key)
		}
	}
	for _, g := range r.plan.groups {
		if g.duplicates > 0 {
			rep.Duplicates = append(rep.Duplicates, Duplicates{g.id, g.duplicates, g.answered, g.stopped})
		}
	}
	slices.SortStableFunc(rep.Duplicates, func(a, b Duplicates) int { return b.N*max(a.Of, 1) - a.N*max(b.Of, 1) })
	rep.Duplicates = rep.Duplicates[:min(len(rep.Duplicates), maxListed)]
	return rep
}
