package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fake is a way of four steps over files: a and b read the source, c reads both, d reads c. Each writes its output in
// pieces, and takes up what it has.
type fake struct {
	t        *testing.T
	root     string
	settings map[string]string // by step
	kill     string            // where a run is killed
	fail     string            // step that fails
	ran      []string
	gone     string // what holds says of d
	dry      bool
	force    bool
	from, to string
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, root: t.TempDir(), settings: map[string]string{}}
	f.write("source", "once upon a time")
	return f
}

func (f *fake) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.root, name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) point(at string) error {
	if at == f.kill {
		return fmt.Errorf("at %s: %w", at, errKilled)
	}
	return nil
}

// step is one that writes three lines of what it reads.
func (f *fake) step(name string, needs ...string) step {
	return step{name: name, needs: needs, plan: func(s *state) (*task, error) {
		inputs := []File{{Path: filepath.Join(f.root, "source")}}
		if len(needs) > 0 {
			inputs = nil
		}
		for _, need := range needs {
			path, err := s.first(need)
			if err != nil {
				return nil, err
			}
			inputs = append(inputs, File{Path: path})
		}
		return &task{
			inputs: inputs, settings: map[string]any{"style": f.settings[name]}, seeds: map[string]int{"first": 1},
			holds: func(context.Context, *Record) string {
				if name == "d" {
					return f.gone
				}
				return ""
			},
			run: func(_ context.Context, w *work) error { return f.run(name, inputs, w) },
		}, nil
	}}
}

func (f *fake) run(name string, inputs []File, w *work) error {
	f.ran = append(f.ran, name)
	if f.fail == name {
		return errors.New("no answer")
	}
	text := f.settings[name]
	for _, in := range inputs {
		data, err := os.ReadFile(in.Path)
		if err != nil {
			return err
		}
		text += string(data)
	}
	path := filepath.Join(f.root, name+".out")
	lines := []string{}
	for i := range 3 {
		if err := f.point(fmt.Sprintf("in %s %d", name, i)); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s %d %s", name, i, text))
		f.write(name+".out", strings.Join(lines, "\n"))
	}
	w.wrote(File{Path: path})
	w.detail("lines", len(lines))
	return nil
}

// once runs the way once, and gives the states.
func (f *fake) once() (map[string]string, error) {
	f.t.Helper()
	manifest, err := openManifest(f.root, "card.yaml", time.Unix(1e9, 0))
	if err != nil {
		f.t.Fatal(err)
	}
	f.ran = nil
	m := &machine{
		steps: []step{f.step("a"), f.step("b"), f.step("c", "a", "b"), f.step("d", "c"), {name: "e", absent: "nobody asked"}},
		state: &state{manifest}, command: "tool run card.yaml", version: "v1", now: time.Now, hook: f.point, dryRun: f.dry, force: f.force,
		from: f.from, to: f.to, status: func([]StepStatus, int) {}, progress: func(string, int64, int64, string) {},
	}
	err = m.run(f.t.Context())
	out := map[string]string{}
	for _, s := range m.all {
		out[s.Step] = s.State
	}
	return out, err
}

// outputs are the hashes in the manifest and the files themselves.
func (f *fake) outputs() map[string]string {
	f.t.Helper()
	m, err := ReadManifest(f.root)
	if err != nil {
		f.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range m.Steps {
		out[r.Step+" status"] = r.Status
		for _, o := range r.Outputs {
			out[r.Step+" "+o.Path] = o.SHA256
			data, err := os.ReadFile(m.Path(o))
			if err != nil {
				f.t.Fatal(err)
			}
			out[o.Path] = string(data)
		}
	}
	return out
}

func (f *fake) want(steps ...string) {
	f.t.Helper()
	if _, err := f.once(); err != nil {
		f.t.Fatal(err)
	}
	if !slices.Equal(f.ran, steps) {
		f.t.Errorf("ran %v, want %v", f.ran, steps)
	}
}

// TestKilled kills a run at every place where something is written, and in the middle of steps. The same command then
// ends in what an undisturbed run gives.
func TestKilled(t *testing.T) {
	undisturbed := newFake(t)
	undisturbed.want("a", "b", "c", "d")
	want := undisturbed.outputs()
	var places []string
	for _, s := range []string{"a", "b", "c", "d"} {
		places = append(places, "before "+s, "started "+s, "in "+s+" 0", "in "+s+" 1", "in "+s+" 2", "ran "+s, "after "+s)
	}
	for _, at := range places {
		f := newFake(t)
		f.kill = at
		if _, err := f.once(); !errors.Is(err, errKilled) {
			t.Fatalf("%s: got %v, want to be killed", at, err)
		}
		before := f.ran
		f.kill = ""
		if _, err := f.once(); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if got := f.outputs(); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", at, got, want)
		}
		if n := len(before) + len(f.ran); n > 5 { // four, and the one that was killed
			t.Errorf("%s: steps ran %v and then %v, want what was done not to run again", at, before, f.ran)
		}
		f.want()
	}
}

// TestKilledTwice kills the second run too, at each place after the first one's.
func TestKilledTwice(t *testing.T) {
	undisturbed := newFake(t)
	undisturbed.want("a", "b", "c", "d")
	want := undisturbed.outputs()
	places := []string{"started a", "in a 1", "ran b", "in c 2", "after c", "in d 0", "ran d"}
	for i, first := range places {
		for _, second := range places[i:] {
			f := newFake(t)
			for _, f.kill = range []string{first, second, ""} {
				if _, err := f.once(); err != nil && !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
			}
			if got := f.outputs(); !maps.Equal(got, want) {
				t.Errorf("%s, %s: got %v, want %v", first, second, got, want)
			}
		}
	}
}

func TestUnchanged(t *testing.T) {
	f := newFake(t)
	f.want("a", "b", "c", "d")
	states, err := f.once()
	want := map[string]string{"a": Unchanged, "b": Unchanged, "c": Unchanged, "d": Unchanged, "e": LeftOut}
	if err != nil || !maps.Equal(states, want) {
		t.Errorf("got %v, %v, want %v", states, err, want)
	}
}

// TestChanged changes one thing at a time: exactly what depends on it runs again.
func TestChanged(t *testing.T) {
	f := newFake(t)
	f.want("a", "b", "c", "d")
	f.settings["b"] = "new "
	f.want("b", "c", "d")
	f.settings["d"] = "new "
	f.want("d")
	f.write("source", "another time")
	f.want("a", "b", "c", "d")
	f.settings["b"] = "" // other settings, but c depends on what b gives
	f.want("b", "c", "d")
	f.write("c.out", "spoilt")
	f.want("c")
	if err := os.Remove(filepath.Join(f.root, "b.out")); err != nil {
		t.Fatal(err)
	}
	f.want("b")
	f.gone = "the server lost it"
	f.want("d")
	f.gone = ""
	f.want()
	f.force, f.from, f.to = true, "b", "c"
	f.want("b", "c")
	f.force, f.from, f.to = false, "", ""
	f.want()
}

// TestDamagedThenKilled spoils an output and kills the run that mends it.
func TestDamagedThenKilled(t *testing.T) {
	f := newFake(t)
	f.want("a", "b", "c", "d")
	want := f.outputs()
	for _, at := range []string{"started c", "in c 1", "ran c"} {
		f.write("c.out", "spoilt")
		f.kill = at
		if _, err := f.once(); !errors.Is(err, errKilled) {
			t.Fatalf("%s: got %v", at, err)
		}
		f.kill = ""
		f.want("c")
		if got := f.outputs(); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", at, got, want)
		}
	}
}

func TestFails(t *testing.T) {
	f := newFake(t)
	f.fail = "c"
	states, err := f.once()
	var step *StepError
	if !errors.As(err, &step) || step.Step != "c" || err.Error() != "step c: no answer; what is done is kept, go on with: tool run card.yaml" {
		t.Errorf("got %v", err)
	}
	if states["b"] != Done || states["c"] != Failed || states["d"] != "" {
		t.Errorf("got states %v", states)
	}
	m, err := ReadManifest(f.root)
	if r := m.Find("c"); err != nil || r.Status != Failed || r.Error != "no answer" || r.Attempts != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	f.fail = ""
	f.want("c", "d")
	if m, err = ReadManifest(f.root); err != nil || m.Find("c").Attempts != 2 || m.Find("c").Error != "" {
		t.Errorf("got %+v, %v", m.Find("c"), err)
	}
}

func TestDryRun(t *testing.T) {
	f := newFake(t)
	f.dry = true
	states, err := f.once()
	want := map[string]string{"a": WouldRun, "b": WouldRun, "c": WouldRun, "d": WouldRun, "e": LeftOut}
	if err != nil || !maps.Equal(states, want) || len(f.ran) > 0 || exists(filepath.Join(f.root, ManifestName)) {
		t.Errorf("got %v, %v, ran %v", states, err, f.ran)
	}
	f.dry = false
	f.want("a", "b", "c", "d")
	f.dry, f.settings["b"] = true, "new "
	states, err = f.once()
	want = map[string]string{"a": Unchanged, "b": WouldRun, "c": MayRun, "d": MayRun, "e": LeftOut}
	if err != nil || !maps.Equal(states, want) || len(f.ran) > 0 {
		t.Errorf("got %v, %v, ran %v", states, err, f.ran)
	}
}

func TestRange(t *testing.T) {
	f := newFake(t)
	f.from, f.to = "c", "d"
	if _, err := f.once(); err == nil || !strings.Contains(err.Error(), "step c: step a: got nothing of it, want it done before") {
		t.Errorf("got %v", err)
	}
	f.from, f.to = "", "b"
	f.want("a", "b")
	f.from, f.to = "c", "c"
	f.want("c")
	f.from, f.to = "d", "a"
	if _, err := f.once(); !errors.Is(err, ErrStep) {
		t.Errorf("got %v", err)
	}
	f.from, f.to = "x", ""
	if _, err := f.once(); !errors.Is(err, ErrStep) || !strings.Contains(err.Error(), `got "x", want one of [a b c d e]`) {
		t.Errorf("got %v", err)
	}
}

// TestInterrupted ends a run by its context in the middle of a step.
func TestInterrupted(t *testing.T) {
	root := t.TempDir()
	manifest, err := openManifest(root, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := step{name: "long", plan: func(*state) (*task, error) {
		return &task{run: func(ctx context.Context, _ *work) error {
			cancel()
			return ctx.Err()
		}}, nil
	}}
	m := &machine{steps: []step{s}, state: &state{manifest}, now: time.Now, status: func([]StepStatus, int) {}}
	if err := m.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if m, err := ReadManifest(root); err != nil || m.Find("long").Status != Running {
		t.Errorf("got %+v, %v, want the step to be as after a kill", m, err)
	}
}

func TestCompare(t *testing.T) {
	a, b := newFake(t), newFake(t)
	b.settings["c"] = "new "
	for _, f := range []*fake{a, b} {
		f.want("a", "b", "c", "d")
	}
	x, err := ReadManifest(a.root)
	if err != nil {
		t.Fatal(err)
	}
	y, err := ReadManifest(filepath.Join(b.root, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range Compare(x, y) {
		got = append(got, d.Step+" "+d.What+" "+d.Key)
	}
	if want := []string{"c setting style", "c output c.out", "d input c.out", "d output d.out"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if d := Compare(x, x); len(d) > 0 {
		t.Errorf("with itself: got %v", d)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = lock(dir); err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}
