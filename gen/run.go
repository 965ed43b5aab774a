package gen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/minhash"
)

// run is a run under way.
type run struct {
	o        Options
	plan     *plan
	journal  *journal.Journal
	manifest *Manifest
	entry    *RunEntry
	pool     *pool
	queue    *queue
	numCtx   int
	began    time.Time

	mu      sync.Mutex // guards what follows, the groups, and done of the jobs
	done    int
	failed  int
	fresh   int            // successes of this run of the program
	reasons map[string]int // of failures
	index   *minhash.Index // nil: nothing is a duplicate
	lengths lengths
	kinds   map[string]int
	types   map[string]int // scenes of a type that is not the card's
	tokens  int64
}

// start plans, opens the journal and finds out what is left to do. Mistakes are found before the first request, and
// everything that all calls would fail with before the first job.
func start(ctx context.Context, o Options) (*run, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	p, err := newPlan(&o)
	if err != nil {
		return nil, err
	}
	longest, n, err := o.longest(p)
	if err != nil {
		return nil, err
	}
	for _, warning := range o.Template.Lint() {
		o.Warn(fmt.Sprintf("template %s: %s", o.Template.Path, warning))
	}
	r := &run{o: o, plan: p, began: time.Now(), reasons: map[string]int{}, kinds: map[string]int{}, types: map[string]int{}}
	if o.Similarity > 0 {
		r.index = minhash.New(o.Similarity)
	}
	if err := r.open(); err != nil {
		r.abandon()
		return nil, err
	}
	if r.done < len(p.jobs) {
		if err := r.connect(ctx, longest, n); err != nil {
			r.abandon()
			return nil, err
		}
	}
	r.queue = newQueue(r.calls())
	r.entry.Options.NumCtx = r.numCtx
	if err := r.manifest.write(); err != nil {
		r.abandon()
		return nil, err
	}
	return r, nil
}

// open opens the journal of the run's day, enters the run into the manifest, and counts what is done.
func (r *run) open() error {
	o := &r.o
	day, err := o.dayOf(r.plan.run)
	if err != nil {
		return err
	}
	dir := filepath.Join(o.Root, "result", day)
	if r.journal, err = journal.Open(dir); err != nil {
		if m, e := readManifest(dir); errors.Is(err, journal.ErrLocked) && e == nil && m.find(m.Active) != nil {
			return fmt.Errorf("%w (process %d)", err, m.find(m.Active).PID)
		}
		return err
	}
	if r.journal.Repaired > 0 {
		o.Info(fmt.Sprintf("%s: %d bytes of a row that was being written when a run was killed are taken off", r.journal.Path(), r.journal.Repaired))
	}
	for _, line := range r.journal.Damaged {
		o.Warn(fmt.Sprintf("%s: line %d is damaged; what it held is asked for again", r.journal.Path(), line))
	}
	if r.manifest, err = readManifest(dir); err != nil {
		return err
	}
	if err := r.enter(day); err != nil {
		return err
	}
	if err := r.checkOutput(); err != nil {
		return err
	}
	return r.load()
}

// enter brings the run's entry in the manifest up to date.
func (r *run) enter(day string) error {
	o := &r.o
	e := r.manifest.find(r.plan.run)
	now := o.Now()
	if e == nil {
		e = &RunEntry{ID: r.plan.run, Kind: o.Kind, Character: o.Card.ID, Language: o.Card.Language, Model: o.Model, Format: o.Format, Started: now, Output: o.outputName(day)}
		r.manifest.Runs = append(r.manifest.Runs, e)
	}
	input := o.Profile
	if o.Kind == prompt.Dialogue {
		input = o.Scenes
	}
	var err error
	if e.Card, err = sourceOf(o.CardPath); err != nil {
		return err
	}
	if e.Input, err = sourceOf(input); err != nil {
		return err
	}
	e.Template, e.PromptStats = Source{o.Template.Path, o.Template.SHA256}, o.Template.Stats()
	e.Options, e.Engines = o.Sampling, nil
	for _, engine := range o.Engines {
		e.Engines = append(e.Engines, engine.Name())
	}
	e.Resumed, e.Ended, e.PID, e.Jobs, e.Report = now, time.Time{}, os.Getpid(), len(r.plan.jobs), nil
	e.JournalFrom = r.journal.Size()
	r.manifest.Active, r.entry = e.ID, e
	return nil
}

// load reads what earlier runs have answered.
func (r *run) load() error {
	err := journal.Read(r.journal.Path(), 0, func(_ int64, row *journal.Row) error {
		j := r.plan.byKey[row.Key]
		if !row.OK() || j == nil || j.done {
			return nil
		}
		whole, gist := r.o.remember(row)
		if r.index != nil {
			r.index.Add(row.Key, whole)
		}
		j.group.know(gist)
		r.count(row)
		return nil
	})
	r.entry.DoneBefore = r.done
	return err
}

// remember gives the text of an answer that others are compared with, and what they are told of it.
func (o *Options) remember(row *journal.Row) (whole, gist string) {
	if row.Kind == sceneKind {
		if scenes, _ := decodeScenes("[" + row.Answer + "]"); len(scenes) == 1 {
			return sceneTexts(&scenes[0])
		}
		return row.Answer, ""
	}
	d, _ := o.decode(row.Format, row.Answer, row.DoneReason)
	return o.dialogueTexts(&d)
}

// count counts a success. r.mu is held, or nobody else is there yet.
func (r *run) count(row *journal.Row) {
	j := r.plan.byKey[row.Key]
	if j == nil || j.done {
		return
	}
	j.done = true
	r.done++
	r.kinds[row.Kind]++
	r.tokens += int64(row.Tokens)
	if row.Kind == sceneKind {
		if scenes, _ := decodeScenes("[" + row.Answer + "]"); len(scenes) == 1 {
			r.lengths.add(len([]rune(scenes[0].Background)))
			if !slices.Contains(r.o.Card.SceneTypes, scenes[0].Type) {
				r.types[scenes[0].Type]++
			}
		}
	}
}

// connect asks the engines about their model, measures the longest prompt, and settles the context length.
func (r *run) connect(ctx context.Context, longest string, n int) error {
	o := &r.o
	var infos []engine.Info
	var here []Engine
	var first error
	for _, e := range o.Engines {
		info, err := e.Inspect(ctx)
		var failed *engine.Error
		switch {
		case err == nil:
			here, infos = append(here, e), append(infos, info)
		case errors.As(err, &failed) && failed.Down:
			first = errors.Join(first, err)
		default:
			return err
		}
	}
	if len(here) == 0 {
		return fmt.Errorf("%w: %w", ErrNoServer, first)
	}
	if first != nil {
		o.Warn(fmt.Sprintf("left out: %v", first))
	}
	window := 0 // the smallest that is known
	for _, info := range infos {
		if info.Context > 0 && (window == 0 || info.Context < window) {
			window = info.Context
		}
	}
	if err := r.fit(ctx, here[0], longest, n, window); err != nil {
		return err
	}
	r.pool = newPool(here, infos, o.Parallel, o.WaitServer, o.Warn)
	return nil
}

// fit measures the longest prompt with the model itself and sees whether it and the answer fit into the context.
func (r *run) fit(ctx context.Context, e Engine, longest string, n, window int) error {
	o := &r.o
	request := o.request(longest, n, o.Sampling.NumCtx, o.Sampling.Seed)
	request.Schema, request.Options.NumPredict = nil, 1
	if request.Options.NumCtx == 0 {
		request.Options.NumCtx = roundUp(len(longest)+256, 1024) // a token is a byte at least
		if window > 0 {
			request.Options.NumCtx = min(request.Options.NumCtx, window)
		}
	}
	var reply engine.Reply
	var err error
	for try := range o.ServerTries {
		callCtx, cancel := context.WithTimeout(ctx, o.Timeout)
		reply, err = e.Chat(callCtx, request)
		cancel()
		var failed *engine.Error
		if err == nil || !errors.As(err, &failed) || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(o.Backoff << min(try, 5)):
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fmt.Errorf("measure the longest prompt: %w", err)
	}
	need := reply.PromptTokens + o.Sampling.NumPredict
	r.numCtx = o.Sampling.NumCtx
	if r.numCtx == 0 { // what others have asked may have more tokens than what stood for it
		r.numCtx = roundUp(need+need/16, 256)
		if window > 0 {
			r.numCtx = min(r.numCtx, window)
		}
	}
	if window > 0 && r.numCtx > window {
		return fmt.Errorf("%w: num_ctx: got %d, want at most %d, which the model was made for", engine.ErrContext, r.numCtx, window)
	}
	if need > r.numCtx {
		return fmt.Errorf("%w: got %d tokens of the longest prompt + num_predict %d, want at most num_ctx %d", engine.ErrContext, reply.PromptTokens, o.Sampling.NumPredict, r.numCtx)
	}
	return nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// calls lays out what has to be asked: the first jobs of every group before the second ones, so that those can be
// told what the first ones were about.
func (r *run) calls() []*call {
	batch := 1
	if r.o.Kind == prompt.Scene {
		batch = r.o.Batch
	}
	var rounds [][]*call
	for _, g := range r.plan.groups {
		var open []*job
		for _, j := range g.jobs {
			if !j.done {
				open = append(open, j)
			}
		}
		for i := 0; len(open) > 0; i++ {
			n := min(batch, len(open))
			if i == len(rounds) {
				rounds = append(rounds, nil)
			}
			rounds[i] = append(rounds[i], &call{group: g, jobs: open[:n:n]})
			open = open[n:]
		}
	}
	var out []*call
	for _, round := range rounds {
		out = append(out, round...)
	}
	return out
}

// finish writes the files that others read, and the report. failure is why the run ended early, or nil.
func (r *run) finish(failure error) (*Report, error) {
	report := r.summary()
	if failure != nil {
		report.Stopped = failure.Error()
	}
	err := r.writeOutput()
	if err == nil && r.o.Own != "" {
		report.Own, err = r.writeOwn()
	}
	kept := *report
	kept.Keys = nil // they follow from the journal
	r.entry.Ended, r.manifest.Active, r.entry.Report = r.o.Now(), "", &kept
	if e := r.manifest.write(); err == nil {
		err = e
	}
	return report, err
}

func (r *run) close() {
	if r.journal != nil {
		r.journal.Close()
	}
}

// abandon closes a run that has not begun, and leaves no empty files and folders of it.
func (r *run) abandon() {
	if r.journal == nil {
		return
	}
	empty := r.journal.Size() == 0
	r.close()
	if dir := filepath.Dir(r.journal.Path()); empty {
		if _, err := os.Stat(filepath.Join(dir, manifestName)); err != nil {
			os.Remove(r.journal.Path())
			os.Remove(dir) // these two only if nothing else is in them
			os.Remove(filepath.Dir(dir))
		}
	}
}
