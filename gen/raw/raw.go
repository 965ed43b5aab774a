// Package raw reads the files that generators write: raw rows and parsed arrays, in every container that is in
// use (one object a line, pretty-printed objects with or without a line between them, arrays), with damage
// skipped and counted; and finds them by their names. A file is indexed in one pass and then read row by row,
// from several goroutines, so that memory does not grow with it.
package raw

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxRow is the size of the largest object that is read, in bytes.
const maxRow = 64 << 20

// span is where a row lies.
type span struct {
	offset int64
	size   int32
}

// Damage is a place where a file holds no JSON object.
type Damage struct {
	Row     int    `json:"row"`    // the number of the last good row before it
	Offset  int64  `json:"offset"` // in bytes
	Problem string `json:"problem"`
}

// File is an indexed file. Its methods may be called from several goroutines.
type File struct {
	Path   string
	Bytes  int64  // of the file when it was opened; what is appended later is not read
	SHA256 string // of these bytes
	Damage []Damage
	f      *os.File
	rows   []span
}

// Open indexes the rows of a file.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: got a folder or a device, want a file", path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read rows: %w", err)
	}
	file := &File{Path: path, Bytes: info.Size(), f: f}
	sum := sha256.New()
	if err := file.index(io.TeeReader(io.LimitReader(f, info.Size()), sum)); err != nil {
		f.Close()
		return nil, fmt.Errorf("read rows %s: %w", path, err)
	}
	file.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return file, nil
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// Len is the number of rows; damaged places are none.
func (f *File) Len() int { return len(f.rows) }

// Size is the size of row i (from 0) in bytes.
func (f *File) Size(i int) int64 { return int64(f.rows[i].size) }

// Read gives the JSON of row i.
func (f *File) Read(i int) ([]byte, error) {
	p := make([]byte, f.rows[i].size)
	if _, err := f.f.ReadAt(p, f.rows[i].offset); err != nil {
		return nil, fmt.Errorf("read rows %s: row %d: %w", f.Path, i+1, err)
	}
	return p, nil
}

// ErrSyntax marks a row that looks like an object from outside, but is no JSON.
var ErrSyntax = errors.New("damaged row")

// Row decodes row i.
func (f *File) Row(i int) (*Row, error) {
	p, err := f.Read(i)
	if err != nil {
		return nil, err
	}
	r := &Row{Number: i + 1}
	if err := json.Unmarshal(p, r); err != nil {
		return nil, fmt.Errorf("%w: %s: row %d: %w", ErrSyntax, f.Path, i+1, err)
	}
	return r, nil
}

// scanner finds objects in a stream of bytes.
type scanner struct {
	f        *File
	offset   int64 // of the byte at hand
	start    int64 // of the object
	depth    int   // of brackets; 0 between objects
	quoted   bool  // inside a string
	escaped  bool  // behind a backslash
	lost     bool  // looking for the next line that begins an object
	column   int   // spaces since the begin of the line; -1 behind anything else
	indent   int   // column of the first object
	closed   bool  // the last byte closed an object at the begin of a line
	anything bool  // an object has begun
}

func (f *File) index(r io.Reader) error {
	s := &scanner{f: f}
	block := make([]byte, 1<<18)
	for {
		n, err := r.Read(block)
		p := block[:n]
		if s.offset == 0 && bytes.HasPrefix(p, []byte("\ufeff")) {
			p, s.offset = p[3:], 3
		}
		for _, b := range p {
			s.step(b)
			s.offset++
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if s.depth > 0 {
		s.damage(s.start, "the file ends inside the object")
	}
	return nil
}

func (s *scanner) damage(at int64, problem string) {
	s.f.Damage = append(s.f.Damage, Damage{len(s.f.rows), at, problem})
	s.depth, s.quoted, s.escaped, s.lost = 0, false, false, true
}

func (s *scanner) step(b byte) {
	switch {
	case s.lost:
		if b == '{' && (s.column >= 0 && (s.column == s.indent || s.column == 0) || s.closed) {
			s.begin()
		}
	case s.quoted:
		s.inString(b)
	case s.depth == 0:
		s.between(b)
	default:
		s.inObject(b)
	}
	s.closed = b == '}' && s.column == 0
	switch {
	case b == '\n':
		s.column = 0
	case (b == ' ' || b == '\r') && s.column >= 0:
		s.column++
	default:
		s.column = -1
	}
}

func (s *scanner) begin() {
	if !s.anything {
		s.anything, s.indent = true, max(s.column, 0)
	}
	s.start, s.depth, s.lost = s.offset, 1, false
}

func (s *scanner) between(b byte) {
	switch b {
	case ' ', '\t', '\r', '\n', ',', '[', ']':
	case '{':
		s.begin()
	default:
		s.damage(s.offset, "text that is no object")
	}
}

func (s *scanner) inString(b byte) {
	switch {
	case s.escaped:
		s.escaped = false
	case b == '\\':
		s.escaped = true
	case b == '"':
		s.quoted = false
	case b < 0x20:
		s.damage(s.start, "a line end inside a string")
	}
}

func (s *scanner) inObject(b byte) {
	switch b {
	case '"':
		s.quoted = true
	case '{':
		if s.column == s.indent && s.column >= 0 { // only an object of its own stands there
			s.damage(s.start, "another object begins inside it")
			s.begin()
			return
		}
		s.depth++
	case '[':
		s.depth++
	case '}', ']':
		if s.depth--; s.depth == 0 {
			s.end()
		}
	}
	if s.depth > 0 && s.offset-s.start > maxRow {
		s.damage(s.start, "an object of more than 64 MiB")
	}
}

func (s *scanner) end() {
	s.f.rows = append(s.f.rows, span{s.start, int32(s.offset - s.start + 1)})
}

// Row is a row of any of the files; what a file does not have is zero.
type Row struct {
	Number      int    `json:"-"` // from 1
	ID          Text   `json:"gen_answer_id"`
	Prompt      string `json:"prompt"`
	Completions Text   `json:"completions"`
	CheckResult *bool  `json:"check_result"`
	Scene       *Scene `json:"scene_data"`
	SceneSource string `json:"scene_source"`
	Ordinal     *int   `json:"ordinal"`
	Model       string `json:"model"`
	DoneReason  string `json:"done_reason"`
	Profile     string `json:"profile"`

	// What parsed files have.
	Type       string   `json:"type"`
	Location   string   `json:"location"`
	Background string   `json:"background"`
	Setting    []string `json:"setting"`
	Dialogue   []Turn   `json:"dialogue"`
	Source     string   `json:"source"`
	SceneKey   string   `json:"scene"`
	Kind       string   `json:"kind"`
}

// Scene is a copy of the scene that a dialogue was asked for.
type Scene struct {
	Type       string `json:"type"`
	Location   string `json:"location"`
	Background string `json:"background"`
}

// Turn is a turn of a parsed dialogue, with what we keep besides the older keys.
type Turn struct {
	Role      string `json:"role"`
	Action    string `json:"action"`
	Content   string `json:"content"`
	RoleRaw   string `json:"role_raw,omitempty"`   // the speaker as written, where that differs
	ActionRaw string `json:"action_raw,omitempty"` // the action as written, where that differs
	Direction string `json:"direction,omitempty"`  // a stage direction before the speech
}

// Failed tells whether the generator itself marked the row as failed.
func (r *Row) Failed() bool { return r.CheckResult != nil && !*r.CheckResult }

// Text is a JSON string, or a number, object or array as its JSON.
type Text string

// UnmarshalJSON takes any value.
func (t *Text) UnmarshalJSON(p []byte) error {
	if p = bytes.TrimSpace(p); len(p) > 0 && p[0] == '"' {
		var s string
		err := json.Unmarshal(p, &s)
		*t = Text(s)
		return err
	}
	if *t = Text(p); string(p) == "null" {
		*t = ""
	}
	return nil
}

// Problems says what was damaged, one line each, at most n.
func (f *File) Problems(n int) (out []string) {
	for _, d := range f.Damage[:min(n, len(f.Damage))] {
		out = append(out, fmt.Sprintf("%s: after row %d, byte %d: %s", f.Path, d.Row, d.Offset, d.Problem))
	}
	return out
}

// Encode gives v as compact JSON without escapes that JSON does not demand, and without a line end.
func Encode(v any) ([]byte, error) { return encode(v, "", "") }

// EncodeIndent is Encode for an element of an array with indent 2.
func EncodeIndent(v any) ([]byte, error) { return encode(v, "  ", "  ") }

func encode(v any, prefix, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	// encoding/json always escapes these two, which JSON allows as they are.
	text := strings.NewReplacer(`\\`, `\\`, `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(b.String())
	return []byte(strings.TrimRight(text, "\n")), nil
}
