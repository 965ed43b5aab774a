// Package eval interviews a persona model and measures what quantizing did to it: rules decide about every reply, each
// score comes with its numerator, its denominator, an interval and the replies that speak against the character, and
// there is no composite score. An interview runs in this process, many conversations at a time, or through an Ollama
// server.
package eval

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/internal/batch"
	"github.com/persona-gguf/persona-gguf/internal/filehash"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Options are what Run needs. Card is needed, and Models, or Through with Server.
type Options struct {
	Card      *persona.Card
	CardPath  string
	Profile   *persona.Profile // nil: the judge sees the card only
	Models    []string         // GGUF files; the first one is what the others are compared with
	Base      string           // GGUF file of the base, whose answers the margin is measured against; "" for a list
	Records   []persona.Record // of an SFT file: those of the split eval are measured on; nil: none
	DataPath  string
	Questions []Probe // further ones, from ReadQuestions
	Through   string  // model of the Ollama server that is interviewed too
	Server    *url.URL
	End       string // end token, if it is not the usual one of the card's format
	Samples   int    // further interviews with the card's sampling
	Seed      uint32 // of the first of them, and of the bootstrap
	Parallel  int
	Threads   int
	GPULayers int
	Judge     string // model of the server that judges; "" for none
	// Interviewer is the model of the server that asks towards the goals among Questions; needed with them.
	Interviewer string
	Program     string // version of the program, for the report
	// Progress is told what is under way.
	Progress func(stage string, done, total int64)
}

// FileReport is what one file, or one model of a server, comes to.
type FileReport struct {
	Label   string       `json:"label"`
	Path    string       `json:"path,omitempty"`
	SHA256  string       `json:"sha256,omitempty"`
	Size    int64        `json:"size,omitempty"`
	Through string       `json:"through,omitempty"` // "ollama" and the server, for one that is not in this process
	Scores  []Score      `json:"scores"`
	Sampled []Score      `json:"sampled,omitempty"` // with the card's sampling
	Checks  []CheckCount `json:"checks"`            // of the probe set
	Means   []Mean       `json:"means"`
	Margin  *Margin      `json:"margin,omitempty"`
	Loss    *Loss        `json:"held_out,omitempty"`
	Judged  *Judged      `json:"judged,omitempty"`
	Gates   []Gate       `json:"gates"`
	Replies []Reply      `json:"replies"`
}

// Report is the result of Run.
type Report struct {
	Version   int            `json:"version"` // of what the scores mean
	Card      string         `json:"card"`
	CardHash  string         `json:"card_sha256"`    // of the file
	Persona   string         `json:"persona_sha256"` // of its persona text
	Character string         `json:"character"`
	Format    persona.Format `json:"format"`
	Data      string         `json:"data,omitempty"`
	Seed      uint32         `json:"seed"`
	Samples   int            `json:"samples"`
	Program   string         `json:"program,omitempty"` // version
	LlamaCpp  string         `json:"llama_cpp"`         // commit
	Probes    []Probe        `json:"probes"`
	Files     []FileReport   `json:"files"`
	Drift     []DriftReport  `json:"drift,omitempty"`
	Pairs     *Pairs         `json:"pairs,omitempty"`
	LostAt    string         `json:"lost_at,omitempty"` // the first file, in the order given, that fails a gate
}

// reportVersion changes when a score means something else.
const reportVersion = 1

// Run interviews every file, measures likelihoods and drift, and compares scores with the card's gates. A gate that
// is not passed is no error: see Report.Passed.
func Run(ctx context.Context, o Options) (*Report, error) {
	if len(o.Models) == 0 && o.Through == "" {
		return nil, errors.New("eval: got no model, want a GGUF file or a model of a server")
	}
	r := &run{Options: o}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	var err error
	if r.asker, err = r.newGuest(ctx); err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	for _, path := range o.Models {
		if err := r.file(ctx, path); err != nil {
			return nil, fmt.Errorf("eval %s: %w", path, err)
		}
	}
	if o.Through != "" {
		if err := r.through(ctx); err != nil {
			return nil, fmt.Errorf("eval through ollama %s: %w", o.Through, err)
		}
	}
	for i := 1; i < len(o.Models); i++ {
		if err := r.compare(ctx, i); err != nil {
			return nil, fmt.Errorf("compare %s with %s: %w", o.Models[i], o.Models[0], err)
		}
	}
	if o.Judge != "" {
		if err := r.judge(ctx); err != nil {
			return nil, fmt.Errorf("judge %s: %w", o.Judge, err)
		}
	}
	r.gates()
	return r.report, nil
}

// run is a Run under way.
type run struct {
	Options
	report    *Report
	probes    []Probe
	guest     string
	asker     *guest // of goals
	held      []persona.Record
	contrasts []contrast
	generic   string
	labels    map[string]bool
}

func (r *run) prepare() error {
	d, err := readProbes()
	if err != nil {
		return err
	}
	if r.probes, err = Probes(r.Card); err != nil {
		return err
	}
	r.probes = append(r.probes, r.Questions...)
	r.guest, r.labels = guestOf(r.Card, d), map[string]bool{}
	if r.contrasts, err = contrasts(r.Card, r.probes, r.Records); err != nil {
		return err
	}
	r.generic = "list"
	if r.Records != nil {
		if r.held, err = heldOut(r.Records); err != nil {
			return err
		}
	}
	_, commit := llama.BuildInfo()
	hash := ""
	if r.CardPath != "" {
		if hash, _, err = filehash.SHA256(r.CardPath); err != nil {
			return err
		}
	}
	r.report = &Report{
		Version: reportVersion, Card: r.CardPath, CardHash: hash, Persona: r.Card.Hash(), Character: r.Card.Name, Format: r.Card.Format,
		Data: r.DataPath, Seed: r.Seed, Samples: r.Samples, Program: r.Program, LlamaCpp: commit, Probes: r.probes, Files: []FileReport{},
	}
	return nil
}

// label is the file's name, or the path where two have the same.
func (r *run) label(path string) string {
	label := filepath.Base(path)
	if r.labels[label] {
		label = path
	}
	r.labels[label] = true
	return label
}

func (r *run) tell(stage string) func(done, total int64) {
	return func(done, total int64) {
		if r.Progress != nil {
			r.Progress(stage, done, total)
		}
	}
}

// local is a file as a speaker.
func (r *run) local(ctx context.Context, path string) (*batch.Engine, *Local, error) {
	renderer, err := NewRenderer(path, r.Card, r.End)
	if err != nil {
		return nil, nil, err
	}
	o := batch.DefaultOptions()
	o.Parallel, o.Threads, o.GPULayers, o.NumCtx = r.Parallel, r.Threads, r.GPULayers, contextOf(r.Card)
	e, err := batch.Open(ctx, path, o)
	if err != nil {
		return nil, nil, err
	}
	return e, &Local{e, e.Model(), renderer, r.Card}, nil
}

// file interviews one file and measures its likelihoods.
func (r *run) file(ctx context.Context, path string) (err error) {
	out := FileReport{Label: r.label(path), Path: path}
	if out.SHA256, out.Size, err = filehash.SHA256(path); err != nil {
		return err
	}
	if r.Base != "" && r.generic == "list" {
		if err := r.askBase(ctx); err != nil {
			return fmt.Errorf("base %s: %w", r.Base, err)
		}
	}
	engine, local, err := r.local(ctx, path)
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := r.interview(ctx, local, &out); err != nil {
		return err
	}
	if out.Margin, err = measureMargin(ctx, local.model, local.renderer, r.Card, r.contrasts, r.generic, uint64(r.Seed), r.Threads); err != nil {
		return err
	}
	if r.held != nil {
		if out.Loss, err = measureLoss(ctx, local.model, r.held, r.Threads); err != nil {
			return err
		}
	}
	r.report.Files = append(r.report.Files, out)
	return nil
}

// interview has all conversations with a speaker.
func (r *run) interview(ctx context.Context, s Speaker, out *FileReport) error {
	v := &interviewer{
		card: r.Card, probes: r.probes, rules: newRules(r.Card, r.guest, s.Stops()), speaker: s,
		samples: r.Samples, seed: r.Seed, parallel: r.Parallel, guest: r.asker, progress: r.tell(out.Label),
	}
	replies, err := v.run(ctx)
	if err != nil {
		return err
	}
	found := v.evaluate(replies)
	out.Scores, out.Sampled, out.Checks, out.Means, out.Replies = found.greedy, found.sampled, found.checks, found.means, replies
	return nil
}

// askBase replaces the generic answers of the margin by the base's own, where it says something.
func (r *run) askBase(ctx context.Context) error {
	engine, local, err := r.local(ctx, r.Base)
	if err != nil {
		return err
	}
	defer engine.Close()
	for i := range r.contrasts {
		c := &r.contrasts[i]
		a, err := local.Reply(ctx, []persona.Turn{{Role: r.Card.User.Name, Content: c.question}}, Sampling{})
		if err != nil {
			return err
		}
		if text := strings.TrimSpace(a.Text); text != "" {
			c.generic = []string{text}
		}
	}
	r.generic = r.Base
	return nil
}

// through interviews the server's model.
func (r *run) through(ctx context.Context) error {
	remote, err := NewRemote(ctx, r.Server, r.Through, r.Card)
	if err != nil {
		return err
	}
	out := FileReport{Label: "ollama:" + r.Through, Through: "ollama " + r.Server.String()}
	if err := r.interview(ctx, remote, &out); err != nil {
		return err
	}
	r.report.Files = append(r.report.Files, out)
	return nil
}

// compare measures the drift of file i from the first one.
func (r *run) compare(ctx context.Context, i int) error {
	d := &DriftReport{Reference: r.Models[0], File: r.Models[i]}
	if r.held != nil {
		var err error
		if d, err = measureDrift(ctx, r.Models[0], r.Models[i], r.held, r.Threads, r.GPULayers); err != nil {
			return err
		}
	}
	d.Reference, d.File = r.report.Files[0].Label, r.report.Files[i].Label
	d.Changes = changes(r.report.Files[0].Scores, r.report.Files[i].Scores)
	r.report.Drift = append(r.report.Drift, *d)
	return nil
}
