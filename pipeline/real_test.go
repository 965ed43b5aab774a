package pipeline

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/internal/ollama"
	"github.com/persona-gguf/persona-gguf/persona"
)

// A run can be killed only in a process of its own: this program, with these flags.
var (
	childServer = flag.String("child-server", "", "go the way of card.yaml in this folder with this Ollama server, and run no test")
	childCache  = flag.String("child-cache", "", "folder of the trainer's environment")
	childKill   = flag.String("child-kill", "", "where the child kills itself")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *childServer == "" {
		os.Exit(m.Run())
	}
	if err := child(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child goes the whole way. At the place that it is told it ends as by kill -9: nothing more is closed, written or said.
func child(out io.Writer) error {
	server, err := url.Parse(*childServer)
	if err != nil {
		return err
	}
	o := Options{CardPath: "card.yaml", Root: "way", Server: server, Env: os.Environ(), CacheDir: *childCache, Version: "v1", Command: "run card.yaml"}
	if o.Card, err = persona.Read(o.CardPath); err != nil {
		return err
	}
	if o.Config, err = FindConfig(o.CardPath); err != nil {
		return err
	}
	say := func(at string) {
		fmt.Fprintln(out, at)
		if at == *childKill {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	o.hook = func(at string) error {
		say(at)
		return nil
	}
	said := map[string]bool{}
	o.Progress = func(step string, done, total int64, detail string) {
		stage, _, _ := strings.Cut(detail, " ")
		if strings.Trim(stage, "0123456789") == "" { // a count
			stage = ""
		}
		at := strings.TrimRight("in the middle of "+step+" "+stage, " ")
		if 2*done >= total && !said[at] {
			said[at] = true
			say(at)
		}
	}
	o.Info, o.Warn = func(s string) { fmt.Fprintln(os.Stderr, s) }, func(s string) { fmt.Fprintln(os.Stderr, s) }
	_, err = Run(context.Background(), o)
	return err
}

const wholeCard = `version: 1
id: snow_white
name: 백설공주
user: {name: 사용자}
cast: [{name: 난쟁이, aliases: [난쟁이들, 일곱 난쟁이]}, {name: 왕비}, {name: 사냥꾼}]
profile: profile.txt
persona: |
  당신은 백설공주입니다. 숲속 작은 집에서 일곱 난쟁이와 함께 살았어요.
  언제나 백설공주로서 공손하게 대답하세요.
unknown_speakers: keep
scenes_per_paragraph: 1
dialogues_per_scene: 3
shares: {identity: 0.2, protective: 0}
identity_questions: ["너는 누구야?"]
sampling: {temperature: 0.7, repeat_penalty: 1, num_predict: 24, num_ctx: 2048}
`

const wholeConfig = `version: 1
base_model: base
generator: {engine: local, temperature: 0.3, tries: 30, max_turns: 12, num_predict: 900, parallel: 1, threads: 1, similarity: 0}
min_yield: 1
prepare: {eval_split: 0.2, near_duplicate: 0}
train: {epochs: 2, learning_rate: 2.0e-3, batch_size: 1, grad_accum: 1, max_length: 1024, cpu: true, threads: 1, save_steps: 2}
gates: {own_name: 0, own_name_identity: 0, honorific: 0, wrong_persona: 1}
eval: {no_gate: true, threads: 1, parallel: 1}
register: always
vtuber: {dir: way/vtuber, conf: true}
`

const wholeVTuber = `system_config: {conf_version: v1.2.1}
character_config:
  conf_name: guide
  live2d_model_name: mao_pro
  agent_config:
    conversation_agent_choice: basic_memory_agent
    agent_settings:
      basic_memory_agent: {llm_provider: ollama_llm}
    llm_configs:
      ollama_llm: {model: x}
`

// whole is a folder with all that a run needs, and a real server.
type whole struct {
	t      *testing.T
	dir    string
	cache  string
	server *ollama.Server
}

func newWhole(t *testing.T) *whole {
	t.Helper()
	w := &whole{t: t, dir: t.TempDir(), server: ollama.ForTest(t)}
	var err error
	if w.cache, err = filepath.Abs("../.cache/python"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(w.dir, "base"), os.DirFS("../examples/snow_white/base")); err != nil {
		t.Fatal(err)
	}
	profile := "백설공주\n\n숲속 작은 집에는 일곱 난쟁이가 살았어요. 백설공주는 그 집에서 쉬었어요.\n\n사냥꾼은 백설공주를 놓아주었어요. 백설공주는 숲속으로 달아났어요.\n"
	for name, text := range map[string]string{"card.yaml": wholeCard, ConfigName: wholeConfig, "profile.txt": profile} {
		w.write(name, text)
	}
	w.clear()
	return w
}

// clear begins anew.
func (w *whole) clear() {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.dir, "way")); err != nil {
		w.t.Fatal(err)
	}
	w.write("way/vtuber/conf.yaml", wholeVTuber)
}

func (w *whole) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// command is this program as a child.
func (w *whole) command(kill string) *exec.Cmd {
	w.t.Helper()
	program, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	c := exec.CommandContext(w.t.Context(), program, "-child-server", w.server.URL.String(), "-child-cache", w.cache, "-child-kill", kill)
	c.Dir = w.dir
	return c
}

// run goes the way in another process, which is to be killed at a place if one is given, and gives the places that it
// came by.
func (w *whole) run(kill string) []string {
	w.t.Helper()
	c := w.command(kill)
	var out, log strings.Builder
	c.Stdout, c.Stderr = &out, &log
	err := c.Run()
	status, _ := c.ProcessState.Sys().(syscall.WaitStatus)
	if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; killed != (kill != "") || !killed && err != nil {
		w.t.Fatalf("kill %q: got %v\n%s%s", kill, err, out.String(), log.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

// state is what a run came to: of every step its status and what it wrote, and the models of the server. training.json
// says that the training went on from a checkpoint, and when.
func (w *whole) state() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, r := range w.manifest().Steps {
		out[r.Step] = r.Status
		for _, f := range r.Outputs {
			if out[r.Step+" "+f.Path] = f.SHA256; filepath.Base(f.Path) == "training.json" {
				out[r.Step+" "+f.Path] = "written"
			}
		}
	}
	models, err := w.server.Client().List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range models.Models {
		out["model "+m.Name] = m.Digest
	}
	return out
}

func (w *whole) manifest() *Manifest {
	w.t.Helper()
	m, err := ReadManifest(filepath.Join(w.dir, "way"))
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// middles are places in the middle of steps, in the order in which a run comes by.
var middles = map[string][]string{
	stepGenerator: {"in the middle of generator converting"},
	stepScenes:    {"in the middle of scenes"},
	stepDialogues: {"in the middle of dialogues"},
	stepTrain:     {"in the middle of train loss"},
	stepConvert:   {"in the middle of convert f16", "in the middle of convert q4_0"},
	stepEval:      {"in the middle of eval snow_white-f16.gguf"},
	stepRegister:  {"in the middle of register hash", "in the middle of register upload"},
}

// TestKilledEverywhere goes from a card to a model at a real server with the real trainer, killed before, in and after
// every step, and no step is done again that was done. What a generator says after a kill may be other words, since it
// computes the prompt in other pieces, but each thing asked for is there once; from the same data on the way ends in the
// same bytes as one that nothing disturbs.
func TestKilledEverywhere(t *testing.T) {
	w := newWhole(t)
	steps := StepNames()
	data := slices.Index(steps, stepPrepare)
	w.run("before " + stepPrepare)
	answers, leftOut := w.answers(), w.leftOut()
	w.clear()
	attempts := map[string]int{}
	w.killed(steps[:data], leftOut, attempts)
	w.run("before " + stepPrepare)
	if got := w.answers(); !maps.Equal(got, answers) {
		t.Errorf("got answers %v, want %v as without a kill", got, answers)
	}

	saved := t.TempDir()
	w.copy(saved, filepath.Join(w.dir, "way"))
	w.run("")
	want := w.state()
	w.asked() // the model answers as the file does
	leftOut = w.leftOut()
	w.forget("snow_white")
	if err := os.RemoveAll(filepath.Join(w.dir, "way")); err != nil {
		t.Fatal(err)
	}
	w.copy(filepath.Join(w.dir, "way"), saved)
	w.killed(steps[data:], leftOut, attempts)
	for _, at := range w.run("") {
		if !strings.HasPrefix(at, "before ") {
			t.Errorf("after all steps: got %q, want nothing to be done", at)
		}
	}
	got := w.state()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s: got %q, want %q as without a kill", key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d files, steps and models, want %d: %v", len(got), len(want), slices.Sorted(maps.Keys(got)))
	}
	for _, r := range w.manifest().Steps {
		if r.Attempts != attempts[r.Step] {
			t.Errorf("%s: got %d attempts, want %d: one for each kill, and the last", r.Step, r.Attempts, attempts[r.Step])
		}
	}
	w.gated()
}

// killed goes through steps, killed wherever that can be, and counts the attempts of each.
func (w *whole) killed(steps []string, leftOut map[string]bool, attempts map[string]int) {
	w.t.Helper()
	for _, step := range steps {
		w.run("before " + step)
		if leftOut[step] {
			continue
		}
		for _, at := range slices.Concat([]string{"started " + step}, middles[step], []string{"ran " + step}) {
			w.run(at)
			attempts[step]++
		}
		w.run("after " + step)
		attempts[step]++
	}
}

func (w *whole) leftOut() map[string]bool {
	w.t.Helper()
	out := map[string]bool{}
	for _, r := range w.manifest().Steps {
		out[r.Step] = r.Status == LeftOut
	}
	return out
}

func (w *whole) copy(to, from string) {
	w.t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		w.t.Fatal(err)
	}
}

var answerID = regexp.MustCompile(`"gen_answer_id":"([^"]*)"`)

// answers counts what was asked for and is there, of every step that asks. Nothing may be there twice.
func (w *whole) answers() map[string]int {
	w.t.Helper()
	out := map[string]int{}
	m := w.manifest()
	for _, step := range []string{stepScenes, stepDialogues} {
		ids := map[string]bool{}
		for _, f := range m.Find(step).Outputs {
			text, err := os.ReadFile(m.Path(f))
			if err != nil {
				w.t.Fatal(err)
			}
			for _, id := range answerID.FindAllStringSubmatch(string(text), -1) {
				if out[step]++; ids[id[1]] {
					w.t.Errorf("%s: answer %s is there twice", step, id[1])
				}
				ids[id[1]] = true
			}
		}
		if out[step] < 2 {
			w.t.Errorf("%s: got %d answers, want some", step, out[step])
		}
	}
	return out
}

// gated goes on with gates that a model of six steps of training does not pass: the run ends at eval, and goes on from
// there.
func (w *whole) gated() {
	w.t.Helper()
	w.write(ConfigName, strings.Replace(wholeConfig, "no_gate: true", "no_gate: false", 1))
	c := w.command("")
	out, err := c.CombinedOutput()
	want := regexp.MustCompile(`run: step eval: eval: gates not passed: the persona is lost at snow_white-f16\.gguf: .*own_name_identity: got .*; ` +
		`report: way/reports/eval\.html; what is done is kept, go on with: run card\.yaml\n$`)
	if err == nil || c.ProcessState.ExitCode() != 1 || !want.Match(out) || strings.Contains(string(out), "started modelfile") {
		w.t.Errorf("gates: got %v, %s", err, out)
	}
	if r := w.manifest().Find(stepEval); r.Status != Failed || !exists(filepath.Join(w.dir, "way/reports/eval.html")) {
		w.t.Errorf("gates: got step eval %s", r.Status)
	}
	w.write(ConfigName, wholeConfig)
	if places := w.run(""); !slices.Contains(places, "started eval") || slices.Contains(places, "started train") {
		w.t.Errorf("after the gates: got %q", places)
	}
}

// forget removes a model of the server.
func (w *whole) forget(name string) {
	w.t.Helper()
	if err := w.server.Client().Delete(w.t.Context(), &api.DeleteRequest{Model: name}); err != nil {
		w.t.Fatal(err)
	}
}
