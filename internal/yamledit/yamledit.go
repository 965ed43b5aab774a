// Package yamledit changes values in a YAML document and leaves every other byte as it is: comments, order, quoting,
// line ends. It edits the text at the place that the parser gives for a node, and parses the result: a change that
// has any other effect than the one that was asked for is an error, and not made.
package yamledit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxBytes is the size of the largest document; configurations are far smaller.
const maxBytes = 4 << 20

var bom = []byte("\ufeff")

// Document is a YAML document whose root is a mapping.
type Document struct {
	text  []byte // without a byte order mark
	bom   bool
	eol   string
	root  *yaml.Node
	lines []int // offset of each line's begin
}

// Parse reads one document. Errors name the line.
func Parse(text []byte) (*Document, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(text), maxBytes)
	}
	d := &Document{eol: "\n"}
	d.text, d.bom = bytes.CutPrefix(text, bom)
	if !utf8.Valid(d.text) {
		return nil, errors.New("got bytes that are not UTF-8")
	}
	if bytes.Contains(d.text, []byte("\r\n")) {
		d.eol = "\r\n"
	}
	d.lines = []int{0}
	for i, c := range string(d.text) {
		switch {
		case c == '\n':
			d.lines = append(d.lines, i+1)
		case c == '\r' && !bytes.HasPrefix(d.text[i:], []byte("\r\n")), c == '\u0085', c == '\u2028', c == '\u2029', c == '\ufeff':
			return nil, fmt.Errorf("line %d: got the line end %U, want \\n or \\r\\n", len(d.lines), c)
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(d.text))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, errors.New("got nothing, want a YAML document")
	} else if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: got a second document, want one", max(second.Line, 1))
	}
	d.root = document.Content[0]
	if d.root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: got no mapping, want keys with values", d.root.Line)
	}
	return d, nil
}

// Bytes is the text of the document.
func (d *Document) Bytes() []byte {
	if d.bom {
		return append(slices.Clone(bom), d.text...)
	}
	return slices.Clone(d.text)
}

// place is where a key is, or would be.
type place struct {
	parents []*yaml.Node // the mappings that the path leads through, the root first
	key     *yaml.Node
	value   *yaml.Node // nil if the key is missing
	missing []string   // the part of the path that is not there
}

// find follows path. Aliases, merged keys and keys that occur twice are errors: what is behind them is not in one
// place.
func (d *Document) find(path []string) (place, error) {
	p := place{value: d.root}
	for i, name := range path {
		n := p.value
		if n.Kind != yaml.MappingNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
			return p, fmt.Errorf("line %d: %s: got %s, want keys with values", n.Line, strings.Join(path[:i], "."), kindOf(n))
		}
		p.parents, p.key, p.value = append(p.parents, n), nil, nil
		for j := 0; j < len(n.Content); j += 2 {
			key := n.Content[j]
			if key.Tag == "!!merge" {
				return p, fmt.Errorf("line %d: %s: got a merge key, want the keys themselves", key.Line, strings.Join(path[:i+1], "."))
			}
			if key.Kind != yaml.ScalarNode || key.Value != name {
				continue
			}
			if p.key != nil {
				return p, fmt.Errorf("line %d: %s: got the key again, want it once: it is on line %d too", key.Line, strings.Join(path[:i+1], "."), p.key.Line)
			}
			p.key, p.value = key, n.Content[j+1]
		}
		if p.key == nil {
			p.missing = path[i:]
			return p, nil
		}
	}
	return p, nil
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return "an anchor or an alias"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "nothing"
	case n.Kind == yaml.ScalarNode:
		return fmt.Sprintf("%q", n.Value)
	}
	return "a tagged value"
}

// Lookup gives the text of a scalar at path; ok is false if the key is missing or has no value.
func (d *Document) Lookup(path ...string) (value string, ok bool, err error) {
	p, err := d.find(path)
	if err != nil || p.value == nil || p.value.Tag == "!!null" {
		return "", false, err
	}
	if p.value.Kind != yaml.ScalarNode {
		return "", false, fmt.Errorf("line %d: %s: got %s, want one value", p.value.Line, strings.Join(path, "."), kindOf(p.value))
	}
	return p.value.Value, true, nil
}

// IsMapping reports whether there are keys with values at path.
func (d *Document) IsMapping(path ...string) bool {
	p, err := d.find(path)
	return err == nil && p.value != nil && p.value.Kind == yaml.MappingNode
}

// Leaf is a value that is no mapping: a string, bool, int64, float64, nil, or []string.
type Leaf struct {
	Path  []string
	Value any
}

// Leaves lists what is under path, in the order of the document. A value that Set cannot write is an error.
func (d *Document) Leaves(path ...string) ([]Leaf, error) {
	p, err := d.find(path)
	if err != nil || p.value == nil {
		return nil, err
	}
	var out []Leaf
	err = leaves(p.value, path, &out)
	return out, err
}

func leaves(n *yaml.Node, path []string, out *[]Leaf) error {
	if n.Kind != yaml.MappingNode {
		value, err := valueOf(n)
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", n.Line, strings.Join(path, "."), err)
		}
		*out = append(*out, Leaf{slices.Clone(path), value})
		return nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if err := leaves(n.Content[i+1], append(slices.Clone(path), n.Content[i].Value), out); err != nil {
			return err
		}
	}
	return nil
}

// valueOf is a node as a Go value.
func valueOf(n *yaml.Node) (any, error) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		return nil, fmt.Errorf("got %s, want the value itself", kindOf(n))
	case n.Kind == yaml.SequenceNode:
		list := []string{}
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode || item.Anchor != "" {
				return nil, errors.New("got a list of more than texts, want texts")
			}
			list = append(list, item.Value)
		}
		return list, nil
	}
	if b, ok := boolOf(n); ok {
		return b, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	switch v := v.(type) {
	case nil, string, float64, int64:
		return v, nil
	case int:
		return int64(v), nil
	}
	return n.Value, nil // a date or a huge number: its text
}

// boolOf knows YAML 1.1's words too, which Python's reader has.
func boolOf(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return false, false
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}
