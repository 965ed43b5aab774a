package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// step is one step of the way.
type step struct {
	name   string
	absent string   // why it is not part of this run; "" if it is
	needs  []string // steps whose outputs it reads
	plan   func(s *state) (*task, error)
}

// task is what a step depends on and does, once the steps that it needs are done.
type task struct {
	inputs   []File
	settings any // as JSON
	seeds    map[string]int
	// holds tells what else must be so for the step to count as done, beyond its files; "" if it is.
	holds func(ctx context.Context, r *Record) (why string)
	run   func(ctx context.Context, w *work) error
}

// work is a step under way.
type work struct {
	*Record
	damaged  []string // outputs of the record before this one that are not what they were, or are to be made anew
	outputs  []File
	progress func(done, total int64, detail string)
}

// wrote says that a file is an output.
func (w *work) wrote(files ...File) { w.outputs = append(w.outputs, files...) }

// detail notes a figure of the step.
func (w *work) detail(key string, v any) { w.Details[key] = v }

// state is what steps know of those before them.
type state struct{ manifest *Manifest }

// out gives the outputs of a step that is done.
func (s *state) out(name string) ([]string, error) {
	r := s.manifest.Find(name)
	if r == nil || r.Status != Done {
		return nil, fmt.Errorf("step %s: got nothing of it, want it done before", name)
	}
	paths := make([]string, len(r.Outputs))
	for i, f := range r.Outputs {
		paths[i] = s.manifest.Path(f)
	}
	return paths, nil
}

// first gives the first output of a step that is done.
func (s *state) first(name string) (string, error) {
	paths, err := s.out(name)
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("step %s: got no output, want one", name)
	}
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

// StepError is the error of a step, with the command that goes on.
type StepError struct {
	Step    string
	Command string // that goes on
	Err     error
}

// Error names the step, what happened, and how to go on.
func (e *StepError) Error() string {
	text := fmt.Sprintf("step %s: %v", e.Step, e.Err)
	if e.Command != "" {
		text += "; what is done is kept, go on with: " + e.Command
	}
	return text
}

// Unwrap gives what happened.
func (e *StepError) Unwrap() error { return e.Err }

// The states of a step in a result, besides those of a manifest.
const (
	Unchanged = "unchanged"    // done before
	WouldRun  = "would run"    // on a dry run
	MayRun    = "may run"      // on a dry run: if a step before it gives something else
	NotAsked  = "not in range" // --from, --to, --only
)

// StepStatus is what is known of a step.
type StepStatus struct {
	Step    string         `json:"step"`
	State   string         `json:"state"`
	Why     string         `json:"why,omitempty"`
	Seconds float64        `json:"seconds"`     // of this run, or of the last one
	ETA     float64        `json:"eta_seconds"` // expected, from the last time; -1: unknown
	Details map[string]any `json:"details,omitempty"`
}

// machine runs steps.
type machine struct {
	steps   []step
	state   *state
	from    string
	to      string
	force   bool
	dryRun  bool
	command string
	version string
	now     func() time.Time
	status  func(all []StepStatus, at int) // told when a step begins and ends
	// progress is told how far a step is.
	progress func(step string, done, total int64, detail string)
	// hook is called between everything that is written; an error ends the run there as if it were killed.
	hook func(at string) error

	all     []StepStatus
	pending map[string]bool // on a dry run: steps that would run, or may
}

// lock keeps other runs out of root.
func lock(root string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(root, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, root)
	}
	return f.Close, nil
}

// run does every step of the range that is not done.
func (m *machine) run(ctx context.Context) error {
	from, to, err := m.bounds()
	if err != nil {
		return err
	}
	m.pending = map[string]bool{}
	for _, s := range m.steps {
		m.all = append(m.all, m.before(s))
	}
	for i, s := range m.steps {
		if i < from || i > to {
			m.all[i].State = NotAsked
			continue
		}
		if err := m.point("before " + s.name); err != nil {
			return err
		}
		if err := m.do(ctx, i); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("step %s: %w", s.name, ctx.Err())
			}
			if errors.Is(err, errKilled) {
				return err
			}
			return &StepError{s.name, m.command, err}
		}
	}
	return nil
}

// bounds gives the range of steps to do.
func (m *machine) bounds() (from, to int, err error) {
	index := func(name string, otherwise int) int {
		if name == "" {
			return otherwise
		}
		i := slices.IndexFunc(m.steps, func(s step) bool { return s.name == name })
		if i < 0 {
			var names []string
			for _, s := range m.steps {
				names = append(names, s.name)
			}
			err = fmt.Errorf("%w: got %q, want one of %v", ErrStep, name, names)
		}
		return i
	}
	from, to = index(m.from, 0), index(m.to, len(m.steps)-1)
	if err == nil && from > to {
		err = fmt.Errorf("%w: got from %s to %s, want the first one before the last", ErrStep, m.from, m.to)
	}
	return from, to, err
}

// before is what is known of a step before anything is looked at.
func (m *machine) before(s step) StepStatus {
	out := StepStatus{Step: s.name, ETA: -1}
	if r := m.state.manifest.Find(s.name); r != nil {
		out.State = r.Status
		if r.Seconds > 0 {
			out.Seconds, out.ETA = r.Seconds, r.Seconds
		}
	}
	return out
}

// set changes what is known of a step, and tells it.
func (m *machine) set(i int, state, why string, seconds float64, details map[string]any) {
	s := &m.all[i]
	s.State, s.Why, s.Details = state, why, details
	if seconds >= 0 {
		s.Seconds = seconds
	}
	m.status(m.all, i)
}

func (m *machine) point(at string) error {
	if m.hook == nil {
		return nil
	}
	return m.hook(at)
}

// do does a step unless it is done.
func (m *machine) do(ctx context.Context, i int) error {
	s := m.steps[i]
	old := m.state.manifest.Find(s.name)
	if s.absent != "" {
		m.set(i, LeftOut, s.absent, -1, nil)
		if m.dryRun || old != nil && old.Status == LeftOut && old.Reason == s.absent {
			return nil
		}
		m.state.manifest.put(&Record{Step: s.name, Status: LeftOut, Reason: s.absent, Started: m.now(), Inputs: []FileHash{}, Outputs: []FileHash{}})
		return m.state.manifest.write()
	}
	if m.dryRun && slices.ContainsFunc(s.needs, func(name string) bool { return m.pending[name] }) {
		m.pending[s.name] = true
		why, state := "it has not run yet", WouldRun
		if old != nil && old.Status == Done {
			why, state = "a step before it runs again", MayRun
		}
		m.set(i, state, why, -1, nil)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t, err := s.plan(m.state)
	if err != nil {
		return err
	}
	r, err := m.record(s.name, t)
	if err != nil {
		return err
	}
	why, damaged, err := m.stale(ctx, old, r, t)
	if err != nil {
		return err
	}
	switch {
	case why == "":
		m.set(i, Unchanged, "", -1, old.Details)
		return nil
	case m.dryRun:
		m.pending[s.name] = true
		m.set(i, WouldRun, why, -1, nil)
		return nil
	}
	return m.work(ctx, i, old, r, t, why, damaged)
}

// record begins the record of a step.
func (m *machine) record(name string, t *task) (*Record, error) {
	inputs, err := m.state.manifest.hash(t.inputs)
	if err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	settings, err := json.Marshal(t.settings)
	if err != nil {
		return nil, err
	}
	r := &Record{Step: name, Inputs: inputs, Settings: settings, Seeds: t.seeds, Outputs: []FileHash{}, Versions: map[string]string{}, Details: map[string]any{}}
	content := make([]string, len(inputs)) // not where they are, but what is in them
	for i, f := range inputs {
		content[i] = f.SHA256
	}
	r.Key, err = digest([]any{name, content, r.Settings, r.Seeds})
	return r, err
}

// stale tells why a step has to run, "" if it need not, and which of its outputs are not what they were.
func (m *machine) stale(ctx context.Context, old, r *Record, t *task) (why string, damaged []string, err error) {
	if old == nil || old.Status == LeftOut {
		return "it has not run yet", nil, nil
	}
	for _, f := range old.Outputs {
		path := m.state.manifest.Path(f)
		now, err := m.state.manifest.hash([]File{{path, f.Bare}})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
		switch {
		case err != nil:
			damaged, why = append(damaged, path), "its output "+f.Path+" is gone"
		case now[0].SHA256 != f.SHA256:
			damaged, why = append(damaged, path), "its output "+f.Path+" is not as it was written"
		case m.force:
			damaged = append(damaged, path)
		}
	}
	switch {
	case old.Status == Running:
		why = "it was interrupted"
	case old.Status == Failed:
		why = "it failed"
	case m.force:
		why = "it is to run again"
	case old.Key != r.Key:
		why = difference(old, r)
	case why == "" && t.holds != nil:
		why = t.holds(ctx, old)
	}
	return why, damaged, nil
}

// difference names what changed between two records of a step.
func difference(old, r *Record) string {
	for i, f := range r.Inputs {
		if i >= len(old.Inputs) || old.Inputs[i].SHA256 != f.SHA256 {
			return "its input " + f.Path + " changed"
		}
	}
	if len(old.Inputs) > len(r.Inputs) {
		return "it has fewer inputs"
	}
	for _, d := range settingsDiffer(old.Settings, r.Settings) {
		return "its setting " + d.Key + " changed"
	}
	return "its seeds changed"
}

// work runs a step, and writes down how it went.
func (m *machine) work(ctx context.Context, i int, old, r *Record, t *task, why string, damaged []string) error {
	manifest := m.state.manifest
	r.Status, r.Started, r.Attempts, manifest.Program = Running, m.now(), 1, m.version
	r.Versions["persona-gguf"] = m.version
	if old != nil {
		r.Outputs = old.Outputs // until there are others: what is damaged now is so after a kill, too
		if r.Seconds = old.Seconds; old.Key == r.Key {
			r.Attempts = old.Attempts + 1
		}
	}
	manifest.put(r)
	if err := manifest.write(); err != nil {
		return err
	}
	m.set(i, Running, why, 0, nil)
	if err := m.point("started " + r.Step); err != nil {
		return err
	}
	w := &work{Record: r, damaged: damaged, progress: func(done, total int64, detail string) { m.progress(r.Step, done, total, detail) }}
	err := t.run(ctx, w)
	if errors.Is(err, errKilled) {
		return err
	}
	if err == nil {
		if err = m.point("ran " + r.Step); err != nil {
			return err
		}
		r.Outputs, err = manifest.hash(w.outputs)
	}
	r.Ended = m.now()
	if ctx.Err() != nil && err != nil { // it stays as it is in the manifest: interrupted
		m.set(i, Running, "interrupted", r.Ended.Sub(r.Started).Seconds(), nil)
		return err
	}
	if err != nil {
		r.Status, r.Error = Failed, err.Error()
		m.set(i, Failed, err.Error(), r.Ended.Sub(r.Started).Seconds(), r.Details)
		return errors.Join(err, manifest.write())
	}
	r.Status, r.Seconds = Done, r.Ended.Sub(r.Started).Seconds()
	if err := manifest.write(); err != nil {
		return err
	}
	m.set(i, Done, why, r.Seconds, r.Details)
	return m.point("after " + r.Step)
}
