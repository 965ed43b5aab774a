package parse

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrYield says that less was kept than was asked for.
var ErrYield = errors.New("yield too low")

// ErrNothing says that nothing could be kept.
var ErrNothing = errors.New("nothing kept")

// Options are what a run over files needs.
type Options struct {
	Card      *persona.Card
	Root      string    // the folder with result/ and processed/
	Character string    // slug in file names; "" for the card's id
	Files     []string  // raw files; none for all of the character under Root
	Kind      string    // "protective" for dialogues about what the character cannot know; "" for the others
	MinYield  float64   // the least share that must be kept, 0 to 1
	Now       time.Time // whose day names the output's folder
	Workers   int       // goroutines; 0 for one per CPU
	Progress  func(done, total int64)
	Warn      func(msg string)
}

// Item is a parsed dialogue, with the keys of the parsed file and more behind them.
type Item struct {
	Background string     `json:"background"`
	Dialogue   []raw.Turn `json:"dialogue"`
	Location   string     `json:"location"`
	Source     string     `json:"source"`
	Type       string     `json:"type,omitempty"`
	Scene      string     `json:"scene,omitempty"` // the scene's source, or what identifies it
	Ordinal    int        `json:"ordinal,omitempty"`
	Kind       string     `json:"kind,omitempty"`
	Flags      []string   `json:"flags,omitempty"` // codes of what an older parser had put in
}

// Source is a file that was read.
type Source struct {
	Path    string `json:"path"`
	SHA256  string `json:"sha256"`
	Bytes   int64  `json:"bytes"`
	Rows    int    `json:"rows"`
	Damaged int    `json:"damaged"` // places without JSON, and rows that are no JSON
}

// Dropped is a row, scene or turn that is left out.
type Dropped struct {
	File string `json:"file"`
	Row  int    `json:"row"`            // from 1
	Item int    `json:"item,omitempty"` // the scene or turn in it, from 1; 0 for the whole row
	Code string `json:"code"`
	Text string `json:"text,omitempty"` // how it begins
}

// maxDropped bounds the list in the report; the counts are always whole.
const maxDropped = 100_000

// Report says what a run read, kept and left out. Of is what Kept is a share of: dialogues, without those that the
// generator marked as failed and repeated ones; or scenes, with a rejected reply as one.
type Report struct {
	Output    string         `json:"output"`
	Unit      string         `json:"unit"` // "dialogue" or "scene"
	Sources   []Source       `json:"sources"`
	Rows      int            `json:"rows"`
	Kept      int            `json:"kept"`
	Of        int            `json:"of"`
	Yield     float64        `json:"yield"`
	Turns     int            `json:"turns,omitempty"`
	TurnsOf   int            `json:"turns_of,omitempty"`
	Codes     map[string]int `json:"codes"`           // what is left out, rows and scenes
	TurnCodes map[string]int `json:"turn_codes"`      // turns left out of dialogues that are kept or not
	Notes     map[string]int `json:"notes"`           // what was read in spite of its shape
	Types     map[string]int `json:"types,omitempty"` // scenes by type
	// Lengths of the backgrounds that were kept, in code points.
	BackgroundMin  int       `json:"background_min"`
	BackgroundMean float64   `json:"background_mean"`
	Dropped        []Dropped `json:"dropped"`
	More           int       `json:"dropped_not_listed,omitempty"`

	backgrounds int
}

// run is a run over the files of one kind.
type run struct {
	Options
	parser *Parser
	report *Report
	files  []*raw.File
	seen   map[string][]uint64 // hashes of the replies, by id
	w      *bufio.Writer
	count  int
}

// Name is the name of a parsed file.
func Name(kind, character, language string) string {
	return "generated_agent_" + kind + "_" + character + "-" + language + ".json"
}

// FileKind is how parsed dialogues of a kind are called in file names.
func FileKind(kind string) string {
	if kind == "protective" {
		return "hallucination"
	}
	return "dialogue"
}

// Dialogues parses raw dialogues into processed/DAY/generated_agent_dialogue_CHARACTER-LANGUAGE.json, and writes
// what became of every row beside it (.report.json). Raw files are never changed. On error nothing is written;
// with ErrYield and ErrNothing the report is there nevertheless.
func Dialogues(ctx context.Context, o Options) (*Report, error) {
	folders := []string{"gen_dialogue"}
	if o.Kind == "protective" {
		folders = []string{"gen_hallucination", "gen_protective"}
	}
	r, err := begin(o, "dialogue", folders)
	if err != nil {
		return nil, err
	}
	defer raw.CloseAll(r.files)
	scenes, err := r.knownScenes()
	if err != nil {
		return nil, err
	}
	return r.write(ctx, Name(FileKind(o.Kind), r.Character, o.Card.Language), func() error {
		return raw.Each(ctx, r.files, o.Workers, func(f, i int) (parsedRow[Dialogue], error) {
			return parseRow(r.files[f], i, r.parser.Dialogue)
		}, func(f, _ int, p parsedRow[Dialogue]) error { return r.dialogue(r.files[f].Path, p, scenes) }, o.Progress)
	})
}

// Scenes parses raw scenes in the same way.
func Scenes(ctx context.Context, o Options) (*Report, error) {
	r, err := begin(o, "scene", []string{"gen_scene"})
	if err != nil {
		return nil, err
	}
	defer raw.CloseAll(r.files)
	r.report.Types = map[string]int{}
	return r.write(ctx, Name("scene", r.Character, o.Card.Language), func() error {
		return raw.Each(ctx, r.files, o.Workers, func(f, i int) (parsedRow[SceneReply], error) {
			return parseRow(r.files[f], i, r.parser.Scenes)
		}, func(f, _ int, p parsedRow[SceneReply]) error { return r.scenes(r.files[f].Path, p) }, o.Progress)
	})
}

// parsedRow is a row and what was read of it; without a row it is damaged.
type parsedRow[T any] struct {
	number int
	row    *raw.Row
	hash   uint64
	k      int // which dialogue of its scene, 0 if that is not known
	parsed T
}

func parseRow[T any](f *raw.File, i int, parse func(*raw.Row) T) (parsedRow[T], error) {
	p := parsedRow[T]{number: i + 1}
	row, err := f.Row(i)
	if errors.Is(err, raw.ErrSyntax) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.row, p.parsed = row, parse(row)
	sum := sha256.New()
	io.WriteString(sum, string(row.Completions))
	for _, t := range row.Dialogue {
		io.WriteString(sum, t.Role+"\x00"+t.Content+"\x00")
	}
	full := sum.Sum(nil)
	for _, b := range full[:8] {
		p.hash = p.hash<<8 | uint64(b)
	}
	if row.ID == "" {
		if row.ID = raw.Text(strings.TrimPrefix(row.Source, "seed_dialogue_")); row.ID == "" {
			row.ID = raw.Text(hex.EncodeToString(full[:8]))
		}
	}
	p.k = ordinal(row)
	row.Prompt, row.Completions, row.Dialogue = "", "", nil // they are not needed until it is written
	return p, nil
}

// begin finds and opens the files.
func begin(o Options, unit string, folders []string) (*run, error) {
	if o.Character == "" {
		o.Character = o.Card.ID
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if len(o.Files) == 0 {
		names := []string{o.Character}
		if o.Character == o.Card.ID {
			names = append(names, o.Card.Name)
		}
		var err error
		if o.Files, err = raw.Find(o.Root, folders, names, o.Card.Language); err != nil {
			return nil, err
		}
	}
	files, err := raw.OpenAll(o.Files)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, parser: New(o.Card), files: files, seen: map[string][]uint64{}}
	r.report = &Report{Unit: unit, Codes: map[string]int{}, TurnCodes: map[string]int{}, Notes: map[string]int{}}
	for _, f := range files {
		r.report.Sources = append(r.report.Sources, Source{f.Path, f.SHA256, f.Bytes, f.Len(), len(f.Damage)})
		r.report.Codes[CodeDamaged] += len(f.Damage)
		for _, problem := range f.Problems(5) {
			o.Warn(problem)
		}
		if n, ok := raw.ParseName(f.Path); ok && (n.Character != o.Character && n.Character != o.Card.Name || n.Language != "" && n.Language != o.Card.Language) {
			o.Warn(fmt.Sprintf("%s: the name says character %s, language %s; the card says %s, %s", f.Path, n.Character, n.Language, o.Character, o.Card.Language))
		}
	}
	if r.report.Codes[CodeDamaged] == 0 {
		delete(r.report.Codes, CodeDamaged)
	}
	return r, nil
}

// write writes the array with what parse emits, and the report.
func (r *run) write(ctx context.Context, name string, parse func() error) (*Report, error) {
	dir := filepath.Join(r.Root, "processed", r.Now.Format(time.DateOnly))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	out, err := atomicfile.Create(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	r.report.Output = filepath.Join(dir, name)
	r.w = bufio.NewWriterSize(out, 1<<18)
	r.w.WriteString("[")
	if err := parse(); err != nil {
		return nil, err
	}
	r.w.WriteString("\n]\n")
	if err := r.w.Flush(); err != nil {
		return nil, err
	}
	if err := r.finish(); err != nil {
		return r.report, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := out.Commit(); err != nil {
		return nil, err
	}
	return r.report, writeJSON(strings.TrimSuffix(r.report.Output, ".json")+".report.json", r.report)
}

func writeJSON(path string, v any) error {
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// finish closes the account and compares it with what was asked for.
func (r *run) finish() error {
	p := r.report
	for _, s := range p.Sources {
		p.Rows += s.Rows
	}
	if p.Of > 0 {
		p.Yield = float64(p.Kept) / float64(p.Of)
	}
	if r.report.backgrounds > 0 {
		p.BackgroundMean /= float64(r.report.backgrounds)
	}
	if p.Kept == 0 {
		return fmt.Errorf("parse %s: %w: got %d rows, want at least one that can be read", p.Unit, ErrNothing, p.Rows)
	}
	if p.Yield < r.MinYield {
		return fmt.Errorf("parse %s: %w: got %d of %d, %.4f, want at least %v; nothing is written", p.Unit, ErrYield, p.Kept, p.Of, p.Yield, r.MinYield)
	}
	return nil
}

func (r *run) drop(d Dropped) {
	if len(r.report.Dropped) < maxDropped {
		r.report.Dropped = append(r.report.Dropped, d)
	} else {
		r.report.More++
	}
}

// reject counts a whole row.
func (r *run) reject(path string, number int, code, text string) {
	r.report.Codes[code]++
	r.drop(Dropped{File: path, Row: number, Code: code, Text: text})
}

// admit looks for repeated rows, and gives the id that the row gets: its own, with a suffix if another text has it.
func (r *run) admit(row *raw.Row, hash uint64) (id string, ok bool) {
	id = string(row.ID)
	hashes := r.seen[id]
	if slices.Contains(hashes, hash) {
		return "", false
	}
	if r.seen[id] = append(hashes, hash); len(hashes) > 0 {
		count(r.report.Notes, "id_of_several", 1)
		id = fmt.Sprintf("%s-%d", id, len(hashes)+1)
	}
	return id, true
}

func (r *run) emit(v any) error {
	text, err := raw.EncodeIndent(v)
	if err != nil {
		return err
	}
	if r.count++; r.count > 1 {
		r.w.WriteString(",")
	}
	r.w.WriteString("\n  ")
	_, err = r.w.Write(text)
	return err
}

func (r *run) background(text string) {
	n := utf8.RuneCountInString(text)
	if r.report.backgrounds == 0 || n < r.report.BackgroundMin {
		r.report.BackgroundMin = n
	}
	r.report.BackgroundMean += float64(n)
	r.report.backgrounds++
}
