package persona

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Record is one dialogue for supervised fine-tuning, one JSON line of a file. Prompt + Output is the exact
// training text; Spans are half-open ranges of Unicode code points in it, all the text under the loss: the
// character's utterances, each with its end token.
type Record struct {
	Prompt string   `json:"prompt"`
	Output string   `json:"output"`
	Source string   `json:"source"`
	Spans  [][2]int `json:"spans,omitempty"`
	End    string   `json:"end,omitempty"`
	Format Format   `json:"format,omitempty"`
	Split  string   `json:"split,omitempty"` // "train" or "eval"; "" when that is not decided yet
	Scene  string   `json:"scene,omitempty"` // what identifies the scene: a scene is held out as a whole
	Type   string   `json:"type,omitempty"`  // the scene's type
	Kind   string   `json:"kind,omitempty"`  // "identity", "protective" or ""
}

// Text is the training text.
func (r *Record) Text() string { return r.Prompt + r.Output }

// Learned gives the texts of the spans, which must be valid.
func (r *Record) Learned() (out []string) {
	text := []rune(r.Text())
	for _, s := range r.Spans {
		out = append(out, string(text[s[0]:s[1]]))
	}
	return out
}

// Check wants spans in order, inside the output, each an utterance with its end token, and nothing but the
// known values elsewhere.
func (r *Record) Check() error {
	if r.Format != ChatML && r.Format != TrainableAgents {
		return fmt.Errorf("format: got %q, want %s or %s", r.Format, ChatML, TrainableAgents)
	}
	if r.Split != "" && r.Split != "train" && r.Split != "eval" {
		return fmt.Errorf("split: got %q, want train or eval", r.Split)
	}
	if r.End == "" {
		return errors.New("end: got no text, want the end token's")
	}
	if !utf8.ValidString(r.Prompt) || !utf8.ValidString(r.Output) {
		return errors.New("text: got bytes that are not UTF-8")
	}
	if len(r.Spans) == 0 {
		return errors.New("spans: got none, want the character's utterances")
	}
	text := []rune(r.Text())
	last := utf8.RuneCountInString(r.Prompt)
	for i, s := range r.Spans {
		if s[0] < last || s[1] <= s[0] || s[1] > len(text) {
			return fmt.Errorf("spans[%d]: got [%d, %d], want a range after %d and up to %d", i, s[0], s[1], last, len(text))
		}
		learned := string(text[s[0]:s[1]])
		if !strings.HasSuffix(learned, r.End) || strings.Count(learned, r.End) != 1 || learned == r.End {
			return fmt.Errorf("spans[%d]: got %q, want an utterance with %s at its end", i, shorten(learned), r.End)
		}
		last = s[1]
	}
	return nil
}

// shorten keeps what fits an error message.
func shorten(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most/2]) + "…" + string(runes[len(runes)-most/2:])
	}
	return s
}

// WriteRecords writes one compact object per line. Text stays readable: nothing but what JSON demands is escaped.
func WriteRecords(w io.Writer, records []Record) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for i := range records {
		if err := records[i].Check(); err != nil {
			return fmt.Errorf("write record %d: %w", i+1, err)
		}
		if err := e.Encode(&records[i]); err != nil {
			return fmt.Errorf("write record %d: %w", i+1, err)
		}
	}
	return nil
}

// ReadOptions say what becomes of records that this program did not write.
type ReadOptions struct {
	Renderer *Renderer // renders records without spans anew; nil refuses them
	Strict   bool      // refuse them in any case, and damaged ones too
}

// Reading says what was read besides the records.
type Reading struct {
	Rendered int      // records without spans, rendered anew
	Lost     int      // places where the JSON was damaged: what stood there is lost
	Warnings []string // one line each, in the order of the file
}

// maxWarnings bounds Warnings, so that a file full of damage does not flood the log.
const maxWarnings = 20

func (r *Reading) warn(format string, args ...any) {
	if len(r.Warnings) < maxWarnings {
		r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
	}
}

// ReadRecords reads a file of records: one object a line, or pretty-printed objects with or without a line
// between them. Damage is skipped up to the next line that begins an object, and counted. Errors name the file
// and the number of the record, from 1.
func ReadRecords(path string, o ReadOptions) ([]Record, Reading, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Reading{}, fmt.Errorf("read records: %w", err)
	}
	var out []Record
	var found Reading
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for len(data) > 0 {
		d := json.NewDecoder(bytes.NewReader(data))
		for err == nil {
			var r Record
			if err = d.Decode(&r); err != nil {
				break
			}
			if err := o.accept(&r, &found); err != nil {
				return nil, found, fmt.Errorf("read records %s: record %d: %w", path, len(out)+1, err)
			}
			if n := len(out); n > 0 && out[n-1].Prompt == r.Prompt {
				r.Prompt = out[n-1].Prompt // one copy in memory
			}
			out = append(out, r)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if o.Strict {
			return nil, found, fmt.Errorf("read records %s: record %d: %w", path, len(out)+1, err)
		}
		found.Lost++
		found.warn("%s: damaged after record %d: %v", path, len(out), err)
		data = data[d.InputOffset():]
		if wrongType := (*json.UnmarshalTypeError)(nil); !errors.As(err, &wrongType) { // else it is read to its end
			data = nextObject(data)
		}
		err = nil
	}
	if len(out) == 0 {
		return nil, found, fmt.Errorf("read records %s: got none, want at least one", path)
	}
	return out, found, nil
}

var objectLine = regexp.MustCompile(`\n\}?\{`)

// nextObject is data from the next line that begins an object.
func nextObject(data []byte) []byte {
	data = bytes.TrimLeft(data, " \t\r\n") // else the damaged object itself is found again
	at := objectLine.FindIndex(data)
	if at == nil {
		return nil
	}
	return data[at[1]-1:]
}

// accept checks a record, or renders it anew if it has no spans.
func (o ReadOptions) accept(r *Record, found *Reading) error {
	if len(r.Spans) > 0 {
		return r.Check()
	}
	if r.Output == "" && r.Prompt == "" {
		return errors.New("got neither prompt nor output, want an SFT record")
	}
	if o.Strict || o.Renderer == nil {
		return errors.New("spans: got none, want the character's utterances")
	}
	fresh, err := o.Renderer.Record(o.Renderer.turnsOf(r.Output))
	if err != nil {
		return fmt.Errorf("without spans: %w", err)
	}
	fresh.Source, fresh.Split, fresh.Scene, fresh.Type, fresh.Kind = r.Source, r.Split, r.Scene, r.Type, r.Kind
	if found.Rendered++; found.Rendered == 1 {
		found.warn("records without spans: rendered anew from their turns, with the card's persona")
	}
	*r = fresh
	return nil
}

// turnsOf reads the turns of the flat text of an old record: a turn begins at a line with a head of somebody on
// the card, any other line continues the one before.
func (r *Renderer) turnsOf(output string) (turns []Turn) {
	for line := range strings.SplitSeq(strings.ReplaceAll(output, "\r\n", "\n"), "\n") {
		if role, action, content, ok := r.splitHead(line); ok {
			turns = append(turns, Turn{role, action, content})
		} else if n := len(turns); n > 0 {
			turns[n-1].Content += "\n" + line
		} else if strings.TrimSpace(line) != "" {
			turns = append(turns, Turn{"", "", line}) // nobody: Record names the line in its error
		}
	}
	for i := range turns {
		turns[i].Content = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(turns[i].Content), "<|eot|>"))
	}
	return turns
}

func (r *Renderer) splitHead(line string) (role, action, content string, ok bool) {
	for _, n := range r.card.names() {
		rest, found := strings.CutPrefix(line, n.name+" ")
		if !found {
			continue
		}
		for _, word := range []string{r.card.Speak(), r.card.Think()} {
			for _, form := range []string{word, "(" + word + ")"} {
				if content, found := strings.CutPrefix(rest, form+":"); found {
					return n.name, word, strings.TrimPrefix(content, " "), true
				}
			}
		}
	}
	return "", "", "", false
}
