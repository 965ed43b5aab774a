// Package sft makes records for supervised fine-tuning of parsed dialogues: rendered by package persona, without
// near duplicates, with whole scenes held out, and counted with a model's own tokenizer.
package sft

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/minhash"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrNothing says that no dialogue made a record.
var ErrNothing = errors.New("nothing kept")

// The codes of dialogues that make no record, besides those of package parse.
const (
	CodeNearDuplicate = "near_duplicate"
	CodeControlText   = "control_text"
	CodeUnrenderable  = "unrenderable"
)

// Options are what Prepare needs; start from DefaultOptions.
type Options struct {
	Card      *persona.Card
	Root      string
	Character string   // slug in file names; "" for the card's id
	Files     []string // parsed arrays; none for the latest under Root, with the latest protective ones
	Format    persona.Format
	End       string              // end token; "" for the format's or the model's
	Thoughts  bool                // keep what the character thinks
	EvalShare float64             // of the scenes, held out
	Threshold float64             // similarity of near duplicates, 0 to 1; 0 keeps them
	MaxLength int                 // tokens
	Model     *Tokenizer          // nil counts no tokens
	Template  *llama.ChatTemplate // renders chatml; nil for the renderer's own form
	Seed      int                 // of which scenes are held out
	Now       time.Time           // names the output's folder, if the input's has no date
	Workers   int
	Progress  func(done, total int64)
	Warn      func(msg string)
}

// DefaultOptions are the command's defaults.
func DefaultOptions() Options {
	return Options{Root: ".", EvalShare: 0.02, Threshold: 0.8, MaxLength: 2048, Seed: 42, Now: time.Now()}
}

// Report says what Prepare read, made and left out.
type Report struct {
	Output    string          `json:"output"`
	Sources   []parse.Source  `json:"sources"`
	Items     int             `json:"items"`
	Records   int             `json:"records"`
	Train     int             `json:"train"`
	Eval      int             `json:"eval"`
	Scenes    int             `json:"scenes"`
	EvalScene int             `json:"eval_scenes"`
	Format    persona.Format  `json:"format"`
	End       string          `json:"end"`
	Codes     map[string]int  `json:"codes"`
	TurnCodes map[string]int  `json:"turn_codes"`
	Notes     map[string]int  `json:"notes"`
	Kinds     map[string]int  `json:"kinds"`
	Repeated  []SceneRepeats  `json:"near_duplicates_by_scene"` // scenes with near duplicates, the worst first
	Tokens    *Tokens         `json:"tokens,omitempty"`
	Dropped   []parse.Dropped `json:"dropped"`
	Sample    string          `json:"-"` // a record, its spans in ⟦…⟧
}

// SceneRepeats is how many dialogues of a scene nearly repeat another.
type SceneRepeats struct {
	Scene      string `json:"scene"`
	Dialogues  int    `json:"dialogues"`
	Duplicates int    `json:"duplicates"`
}

// job is a run of Prepare.
type job struct {
	Options
	parser   *parse.Parser
	renderer *persona.Renderer
	files    []*raw.File
	index    *minhash.Index
	report   *Report
	records  []persona.Record
	sources  map[string]int
	scenes   map[string]*SceneRepeats
}

// Prepare makes the records of parsed dialogues and writes them to prompted/prompted_agent_dialogue_CHARACTER.jsonl
// beside the parsed file, with a report. On error nothing is written.
func Prepare(ctx context.Context, o Options) (*Report, error) {
	j, err := begin(o)
	if err != nil {
		return nil, err
	}
	defer raw.CloseAll(j.files)
	err = raw.Each(ctx, j.files, o.Workers, func(f, i int) (made, error) { return j.make(j.files[f], i) },
		func(f, i int, m made) error { j.take(j.files[f].Path, i+1, m); return nil }, o.Progress)
	if err != nil {
		return nil, err
	}
	if len(j.records) == 0 {
		return j.report, fmt.Errorf("prepare: %w: got %d dialogues, want at least one that makes a record", ErrNothing, j.report.Items)
	}
	j.split()
	j.repeats()
	if o.Model != nil {
		if j.report.Tokens, err = o.Model.count(ctx, j.records, o.MaxLength, o.Workers); err != nil {
			return nil, err
		}
	}
	j.report.Sample = Mark(&j.records[0])
	return j.report, j.write()
}

func begin(o Options) (*job, error) {
	if o.Character == "" {
		o.Character = o.Card.ID
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	r, err := persona.NewRenderer(o.Card, persona.Options{Format: o.Format, End: o.End, Thoughts: o.Thoughts, Template: o.Template})
	if err != nil {
		return nil, err
	}
	j := &job{Options: o, parser: parse.New(o.Card), renderer: r, sources: map[string]int{}, scenes: map[string]*SceneRepeats{}}
	j.report = &Report{Format: r.Format(), End: r.End(), Codes: map[string]int{}, TurnCodes: map[string]int{}, Notes: map[string]int{}, Kinds: map[string]int{}, Repeated: []SceneRepeats{}}
	if o.Model != nil {
		if err := o.Model.checkEnd(r.End()); err != nil {
			return nil, err
		}
	}
	if o.Threshold > 0 {
		j.index = minhash.New(o.Threshold)
	}
	if err := j.find(); err != nil {
		return nil, err
	}
	if j.files, err = raw.OpenAll(j.Files); err != nil {
		return nil, err
	}
	for _, f := range j.files {
		j.report.Sources = append(j.report.Sources, parse.Source{Path: f.Path, SHA256: f.SHA256, Bytes: f.Bytes, Rows: f.Len(), Damaged: len(f.Damage)})
		for _, problem := range f.Problems(5) {
			o.Warn(problem)
		}
	}
	return j, nil
}

// find looks for the parsed files, and fixes the name of the output.
func (j *job) find() error {
	dir := ""
	if len(j.Files) == 0 {
		path, day, err := raw.FindParsed(j.Root, parse.Name("dialogue", j.Character, j.Card.Language))
		if err != nil {
			return err
		}
		j.Files, dir = []string{path}, day
		for _, name := range []string{parse.Name("hallucination", j.Character, j.Card.Language), "generated_agent_hallucination_" + j.Card.Name + ".json"} {
			switch path, _, err := raw.FindParsed(j.Root, name); {
			case err == nil:
				j.Files = append(j.Files, path)
			case !errors.Is(err, fs.ErrNotExist):
				return err
			}
		}
	} else if folder := filepath.Dir(j.Files[0]); isDay(filepath.Base(folder)) {
		dir = folder
	} else {
		dir = filepath.Join(j.Root, "processed", j.Now.Format(time.DateOnly))
	}
	j.report.Output = filepath.Join(dir, "prompted", Name(j.Character))
	return nil
}

// Name is the name of a file of records.
func Name(character string) string { return "prompted_agent_dialogue_" + character + ".jsonl" }

func isDay(name string) bool {
	_, err := time.Parse(time.DateOnly, name)
	return err == nil
}

// made is what a worker makes of an item.
type made struct {
	record persona.Record
	sketch minhash.Sketch
	row    *raw.Row
	read   parse.Dialogue
	code   string
	text   string
}

func (j *job) make(f *raw.File, i int) (made, error) {
	row, err := f.Row(i)
	if errors.Is(err, raw.ErrSyntax) {
		return made{code: parse.CodeDamaged}, nil
	}
	if err != nil {
		return made{}, err
	}
	m := made{row: row, read: j.parser.Dialogue(row)}
	if m.code = m.read.Code; m.code != "" {
		return m, nil
	}
	protective := row.Kind == "protective" || strings.Contains(filepath.Base(f.Path), "_hallucination_")
	turns := make([]persona.Turn, len(m.read.Turns))
	var said strings.Builder
	for k, t := range m.read.Turns {
		turns[k] = persona.Turn{Role: t.Role, Action: t.Action, Content: t.Content}
		if protective {
			turns[k].Action = j.Card.Speak()
		}
		said.WriteString(t.Content)
	}
	if m.record, err = j.renderer.Record(turns); err != nil {
		if m.code, m.text = CodeUnrenderable, err.Error(); strings.Contains(m.text, "control token") {
			m.code = CodeControlText
		}
		return m, nil
	}
	m.record.Source, m.record.Scene, m.record.Type, m.record.Kind = row.Source, row.SceneKey, row.Type, row.Kind
	if protective {
		m.record.Kind = "protective"
	}
	if j.index != nil {
		m.sketch = minhash.Of(said.String())
	}
	return m, nil
}

// take accounts for an item, in the order of the files.
func (j *job) take(path string, row int, m made) {
	j.report.Items++
	for code, n := range m.read.Notes {
		j.report.Notes[code] += n
	}
	for _, d := range m.read.Dropped {
		j.report.TurnCodes[d.Code]++
		j.report.Dropped = append(j.report.Dropped, parse.Dropped{File: path, Row: row, Item: d.Item, Code: d.Code, Text: d.Text})
	}
	if m.code == "" {
		j.name(&m.record, row)
		m.code, m.text = j.repeated(&m)
	}
	if m.code != "" {
		j.report.Codes[m.code]++
		j.report.Dropped = append(j.report.Dropped, parse.Dropped{File: path, Row: row, Code: m.code, Text: m.text})
		return
	}
	if n := len(j.records); n > 0 && j.records[n-1].Prompt == m.record.Prompt {
		m.record.Prompt = j.records[n-1].Prompt // one copy in memory
	}
	j.report.Kinds[kindName(m.record.Kind)]++
	j.records = append(j.records, m.record)
}

func kindName(kind string) string {
	if kind == "" {
		return "dialogue"
	}
	return kind
}

// name makes the source of a record distinct, and says what its scene is.
func (j *job) name(r *persona.Record, row int) {
	if r.Source == "" {
		r.Source = fmt.Sprintf("row_%d", row)
	}
	if j.sources[r.Source]++; j.sources[r.Source] > 1 {
		j.report.Notes["source_of_several"]++
		r.Source = fmt.Sprintf("%s-%d", r.Source, j.sources[r.Source])
		j.sources[r.Source]++
	}
	if r.Scene == "" {
		r.Scene = r.Source
	}
}

// repeated finds near duplicates.
func (j *job) repeated(m *made) (code, text string) {
	s := j.scenes[m.record.Scene]
	if s == nil {
		s = &SceneRepeats{Scene: m.record.Scene}
		j.scenes[m.record.Scene] = s
	}
	s.Dialogues++
	if j.index == nil {
		return "", ""
	}
	of, ok := j.index.AddSketch(m.record.Source, m.sketch)
	if ok {
		return "", ""
	}
	s.Duplicates++
	return CodeNearDuplicate, m.record.Source + " like " + of
}

// repeats lists the scenes with near duplicates.
func (j *job) repeats() {
	for _, s := range j.scenes {
		if s.Duplicates > 0 {
			j.report.Repeated = append(j.report.Repeated, *s)
		}
	}
	slices.SortFunc(j.report.Repeated, func(a, b SceneRepeats) int {
		if d := b.Duplicates*a.Dialogues - a.Duplicates*b.Dialogues; d != 0 {
			return d
		}
		return strings.Compare(a.Scene, b.Scene)
	})
}

// split holds out whole scenes. Which ones depends on the seed and their names only, so that more data, or another
// order, moves no scene that stays.
func (j *job) split() {
	keys := map[string][sha256.Size]byte{}
	for i := range j.records {
		scene := j.records[i].Scene
		if _, ok := keys[scene]; !ok {
			keys[scene] = sha256.Sum256(fmt.Appendf(nil, "%d %s", j.Seed, scene))
		}
	}
	order := make([]string, 0, len(keys))
	for scene := range keys {
		order = append(order, scene)
	}
	slices.SortFunc(order, func(a, b string) int {
		x, y := keys[a], keys[b]
		return slices.Compare(x[:], y[:])
	})
	n := 0
	if j.EvalShare > 0 {
		n = min(int(math.Ceil(j.EvalShare*float64(len(order)))), len(order)-1)
	}
	held := map[string]bool{}
	for _, scene := range order[:n] {
		held[scene] = true
	}
	for i := range j.records {
		r := &j.records[i]
		if r.Split = "train"; held[r.Scene] {
			r.Split = "eval"
			j.report.Eval++
		}
	}
	j.report.Records, j.report.Scenes, j.report.EvalScene = len(j.records), len(order), n
	j.report.Train = j.report.Records - j.report.Eval
}

func (j *job) write() error {
	if err := makeDir(filepath.Dir(j.report.Output)); err != nil {
		return err
	}
	err := atomicfile.WriteFile(j.report.Output, func(w io.Writer) error { return persona.WriteRecords(w, j.records) })
	if err != nil {
		return err
	}
	return writeReport(strings.TrimSuffix(j.report.Output, ".jsonl")+".report.json", j.report)
}

// Mark is the text of a record with its spans in ⟦…⟧.
func Mark(r *persona.Record) string {
	text := []rune(r.Text())
	var b strings.Builder
	at := 0
	for _, s := range r.Spans {
		b.WriteString(string(text[at:s[0]]) + "⟦" + string(text[s[0]:s[1]]) + "⟧")
		at = s[1]
	}
	b.WriteString(string(text[at:]))
	return b.String()
}
