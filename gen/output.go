package gen

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/filehash"
)

// outputRow is a row of the file that other tools read. The first four keys, and scene_data, are those of older
// generators.
type outputRow struct {
	ID          string    `json:"gen_answer_id"`
	Prompt      string    `json:"prompt"`
	Completions string    `json:"completions"`
	CheckResult bool      `json:"check_result"`
	SceneData   *rowScene `json:"scene_data,omitempty"`

	SceneSource  string          `json:"scene_source,omitempty"`
	Profile      string          `json:"profile,omitempty"`
	Kind         string          `json:"kind"`
	Ordinal      int             `json:"ordinal,omitempty"`
	Model        string          `json:"model"`
	PromptSHA256 string          `json:"prompt_sha256"`
	Seed         int             `json:"seed"`
	Options      json.RawMessage `json:"options"`
	DoneReason   string          `json:"done_reason"`
	CreatedAt    time.Time       `json:"created_at"`
}

type rowScene struct {
	Location   string `json:"location"`
	Background string `json:"background"`
	Type       string `json:"type"`
}

// sceneRow collects the scenes of a paragraph.
type sceneRow struct {
	first  *journal.Row
	scenes []*journal.Row
}

// eachRow calls f with the rows of an output file, made from the journal: one for each dialogue, in the order in
// which they came, or one for each paragraph with its scenes in the order of their ordinals. Only answers that keep
// takes are in it.
func eachRow(journalPath string, keep func(*journal.Row) bool, language string, f func(row *outputRow) error) error {
	var order []string
	paragraphs := map[string]*sceneRow{}
	seen := map[string]bool{}
	err := journal.Read(journalPath, 0, func(_ int64, r *journal.Row) error {
		if !r.OK() || !keep(r) || seen[r.Key] {
			return nil
		}
		seen[r.Key] = true
		if r.Kind != sceneKind {
			return f(newRow(r))
		}
		id := r.Run + r.Group
		if paragraphs[id] == nil {
			paragraphs[id] = &sceneRow{first: r}
			order = append(order, id)
		}
		paragraphs[id].scenes = append(paragraphs[id].scenes, r)
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range order {
		p := paragraphs[id]
		slices.SortStableFunc(p.scenes, func(a, b *journal.Row) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
		row := newRow(p.first)
		row.ID, row.Ordinal, row.DoneReason = digest("paragraph", id)[:16], 0, "stop" // scenes that were cut off are not among them
		var blocks []string
		for i, s := range p.scenes {
			blocks = append(blocks, heading(language, i+1)+sceneBlock(s.Answer, language))
		}
		row.Completions = strings.Join(blocks, "\n\n")
		if err := f(row); err != nil {
			return err
		}
	}
	return nil
}

func newRow(r *journal.Row) *outputRow {
	row := &outputRow{
		ID: r.Key[:16], Prompt: r.Prompt, Completions: r.Answer, CheckResult: true, Profile: r.Profile, Kind: r.Kind, Ordinal: r.Ordinal,
		Model: r.Model, PromptSHA256: r.PromptSHA256, Seed: r.Seed, Options: r.Options, DoneReason: r.DoneReason, CreatedAt: r.At,
	}
	if s := r.Scene; s != nil {
		row.SceneData, row.SceneSource = &rowScene{s.Location, s.Background, s.Type}, s.Source
	}
	return row
}

// labels are the words of a scene in the text form of older generators.
var labels = map[string][4]string{
	"korean":  {"장면", "유형", "장소", "배경"},
	"english": {"Scene", "Type", "Location", "Background"},
}

func heading(language string, n int) string { return fmt.Sprintf("%s %d:\n", labels[language][0], n) }

// sceneBlock is a scene in the text form of older generators, without its heading.
func sceneBlock(answer, language string) string {
	var s journal.Scene
	if json.Unmarshal([]byte(answer), &s) != nil {
		return answer
	}
	l := labels[language]
	return fmt.Sprintf("%s: %s\n%s: %s\n%s: %s", l[1], s.Type, l[2], s.Location, l[3], s.Background)
}

// sharing takes the answers of all runs that write the same file.
func (r *run) sharing() func(*journal.Row) bool {
	runs := r.manifest.sharing(r.entry)
	return func(row *journal.Row) bool { return runs[row.Run] }
}

// writeOwn writes the file with this run's answers.
func (r *run) writeOwn() (string, error) {
	path := filepath.Join(r.o.Own, filepath.Base(filepath.FromSlash(r.entry.Output)))
	if err := os.MkdirAll(r.o.Own, 0o777); err != nil {
		return "", err
	}
	own := func(row *journal.Row) bool { return row.Run == r.plan.run && r.plan.byKey[row.Key] != nil }
	return path, atomicfile.WriteFile(path, func(w io.Writer) error {
		return eachRow(r.journal.Path(), own, r.entry.Language, func(row *outputRow) error {
			text, err := raw.Encode(row)
			if err != nil {
				return err
			}
			_, err = w.Write(append(text, '\n'))
			return err
		})
	})
}

// writeOutput makes the output file anew from the journal.
func (r *run) writeOutput() error {
	path := filepath.Join(r.o.Root, filepath.FromSlash(r.entry.Output))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	rows := 0
	h := sha256.New()
	err := atomicfile.WriteFile(path, func(w io.Writer) error {
		return eachRow(r.journal.Path(), r.sharing(), r.entry.Language, func(row *outputRow) error {
			text, err := raw.Encode(row)
			if err != nil {
				return err
			}
			rows++
			text = append(text, '\n')
			h.Write(text)
			_, err = w.Write(text)
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, e := range r.manifest.Runs {
		if e.Output == r.entry.Output {
			e.OutputHash = fmt.Sprintf("%x", h.Sum(nil))
		}
	}
	if rows == 0 { // nothing to be read
		return os.Remove(path)
	}
	return nil
}

// checkOutput wants the output file to be as a run has left it. After a run that was killed it may lack rows, and
// rows of scenes may lack scenes; but what is in it must come from the journal.
func (r *run) checkOutput() error {
	path := filepath.Join(r.o.Root, filepath.FromSlash(r.entry.Output))
	hash, _, err := filehash.SHA256(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.entry.OutputHash == hash {
		return nil
	}
	ours := map[string]bool{}
	err = eachRow(r.journal.Path(), r.sharing(), r.entry.Language, func(row *outputRow) error {
		for _, part := range r.parts(row) {
			ours[part] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	data, err := os.Open(path)
	if err != nil {
		return err
	}
	defer data.Close()
	b := bufio.NewReader(data)
	for n := 1; ; n++ {
		text, err := b.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what follows the last line end is a torn row
		}
		if err != nil {
			return err
		}
		row := &outputRow{}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		bad := json.Unmarshal(text, row) != nil
		for _, part := range r.parts(row) {
			bad = bad || !ours[part]
		}
		if bad {
			return fmt.Errorf("%w: %s: line %d: got something else than the journal has", ErrEdited, path, n)
		}
	}
}

// parts are what must be equal in two states of a row: its scenes one by one, or all of it.
func (r *run) parts(row *outputRow) (out []string) {
	if r.o.Kind != prompt.Scene {
		return []string{mustJSON(row)}
	}
	for _, block := range strings.Split(row.Completions, "\n\n") {
		_, rest, _ := strings.Cut(block, "\n")
		out = append(out, row.ID+row.Prompt+rest)
	}
	return out
}

// Rebuild writes the output files of a day anew from its journal, without asking anybody.
func Rebuild(o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("rebuild %s: %w", o.Kind, err)
	}
	p, err := newPlan(&o)
	if err != nil {
		return nil, fmt.Errorf("rebuild %s: %w", o.Kind, err)
	}
	r := &run{o: o, plan: p, began: time.Now(), reasons: map[string]int{}, kinds: map[string]int{}, types: map[string]int{}}
	defer r.close()
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("rebuild %s: %w", o.Kind, err)
	}
	return r.finish(nil)
}
