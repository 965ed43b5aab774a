package yamledit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Set gives the key at path a value: a string, bool, int, int64, float64, nil or []string. A key that is missing is
// added at the end of its mapping, with the mappings that lead to it. changed is false if the value is there
// already, in whatever form it is written. After an error the document is as it was.
func (d *Document) Set(value any, path ...string) (changed bool, err error) {
	if i, ok := value.(int); ok {
		value = int64(i)
	}
	if f, ok := value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return false, fmt.Errorf("%s: got %v, want a finite number", strings.Join(path, "."), f)
	}
	where := strings.Join(path, ".")
	p, err := d.find(path)
	if err != nil {
		return false, err
	}
	if p.value != nil && equal(p.value, value) {
		return false, nil
	}
	var text []byte
	if p.value == nil {
		text, err = d.insert(p, value)
	} else {
		text, err = d.replace(p, value)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", where, err)
	}
	next, err := Parse(text)
	if err != nil {
		return false, fmt.Errorf("%s: the edited text cannot be read: %w", where, err)
	}
	if err := sameBut(d.root, next.root, path, value); err != nil {
		return false, fmt.Errorf("%s: the edit would change more: %w", where, err)
	}
	next.bom = d.bom
	*d = *next
	return true, nil
}

func (d *Document) splice(start, end int, text string) []byte {
	return slices.Concat(d.text[:start], []byte(text), d.text[end:])
}

// replace puts value where the old one is.
func (d *Document) replace(p place, value any) ([]byte, error) {
	old, mapping := p.value, p.parents[len(p.parents)-1]
	if old.Kind == yaml.MappingNode {
		return nil, fmt.Errorf("line %d: got keys with values, want one value", old.Line)
	}
	if hasComment(old) {
		return nil, fmt.Errorf("line %d: got comments inside the value, which would be lost", old.Line)
	}
	inFlow := slices.ContainsFunc(p.parents, func(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 })
	if isNothing(old) {
		if inFlow {
			return nil, fmt.Errorf("line %d: %w", p.key.Line, errExtent)
		}
		at, err := d.colon(p.key)
		if err != nil {
			return nil, err
		}
		return d.put(at, at, " ", mapping, value, nil, inFlow), nil
	}
	start, end, err := d.extent(old)
	if err != nil {
		return nil, err
	}
	if old.Kind == yaml.SequenceNode && old.Style&yaml.FlowStyle == 0 {
		return d.replaceList(p, start, end, value)
	}
	return d.put(start, end, "", mapping, value, old, inFlow), nil
}

// put writes value over the range. What follows on the first line, a comment, stays on it: behind the header of a
// block text, or behind the value that takes the place of one.
func (d *Document) put(start, end int, lead string, mapping *yaml.Node, value any, old *yaml.Node, inFlow bool) []byte {
	wasBlock := old != nil && old.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	tail := string(d.text[end:d.lineEnd(end)])
	if wasBlock {
		first := string(d.text[start:d.lineEnd(start)])
		tail = first[len(strings.SplitN(first, " ", 2)[0]):]
	}
	if s, ok := value.(string); ok && !inFlow {
		if header, lines, ok := block(s, strings.Repeat(" ", mapping.Column-1+d.step()), d.eol); ok {
			return d.splice(start, d.lineEnd(end), lead+header+tail+lines)
		}
	}
	if !wasBlock {
		tail = ""
	}
	return d.splice(start, end, lead+scalar(value, old)+tail)
}

// replaceList replaces a list with a dash before each element, by one alike, or by what fits behind the colon.
func (d *Document) replaceList(p place, start, end int, value any) ([]byte, error) {
	if list, ok := value.([]string); ok && len(list) > 0 {
		indent := strings.Repeat(" ", p.value.Column-1)
		var b strings.Builder
		for i, s := range list {
			if i > 0 {
				b.WriteString(d.eol + indent)
			}
			b.WriteString("- " + textScalar(s, p.value.Content[0]))
		}
		return d.splice(start, end, b.String()), nil
	}
	at, err := d.colon(p.key)
	if err != nil {
		return nil, err
	}
	between := string(d.text[at:start])
	tail, rest, _ := strings.Cut(between, "\n")
	if strings.TrimSpace(rest) != "" {
		return nil, fmt.Errorf("line %d: got comments before the list, which would be lost", p.key.Line)
	}
	return d.splice(at, end, " "+scalar(value, nil)+strings.TrimRight(tail, "\r \t")), nil
}

// hasComment looks inside a list; a comment at a scalar is beside it, not in it.
func hasComment(n *yaml.Node) bool {
	for i, item := range n.Content {
		last := i == len(n.Content)-1
		if item.HeadComment != "" && i > 0 || item.LineComment != "" && !last || item.FootComment != "" && !last || hasComment(item) {
			return true
		}
	}
	return n.Kind == yaml.SequenceNode && n.Style&yaml.FlowStyle != 0 && slices.ContainsFunc(n.Content, func(c *yaml.Node) bool {
		return c.HeadComment+c.LineComment+c.FootComment != ""
	})
}

// step is the indentation of one level more.
func (d *Document) step() int {
	for i := 1; i < len(d.root.Content); i += 2 {
		if v := d.root.Content[i]; v.Kind == yaml.MappingNode && v.Style&yaml.FlowStyle == 0 && v.Column > d.root.Column {
			return v.Column - d.root.Column
		}
	}
	return 2
}

// insert adds the missing part of the path to the last mapping that is there.
func (d *Document) insert(p place, value any) ([]byte, error) {
	mapping := p.parents[len(p.parents)-1]
	for _, name := range p.missing {
		if !plainText.MatchString(name) || slices.Contains(words, strings.ToLower(name)) {
			return nil, fmt.Errorf("key: got %q, want a plain word", name)
		}
	}
	if slices.ContainsFunc(p.parents, func(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }) {
		return d.insertFlow(mapping, p.missing, value)
	}
	if len(mapping.Content) == 0 {
		return nil, errExtent
	}
	end, err := d.lastEnd(mapping)
	if err != nil {
		return nil, err
	}
	at := d.lineEnd(end)
	var b strings.Builder
	indent := mapping.Column - 1
	for i, name := range p.missing {
		b.WriteString(d.eol + strings.Repeat(" ", indent+i*d.step()) + name + ":")
	}
	inner := strings.Repeat(" ", indent+len(p.missing)*d.step())
	if s, ok := value.(string); ok {
		if header, lines, ok := block(s, inner, d.eol); ok {
			b.WriteString(" " + header + lines)
			return d.splice(at, at, b.String()), nil
		}
	}
	b.WriteString(" " + scalar(value, nil))
	return d.splice(at, at, b.String()), nil
}

func (d *Document) insertFlow(mapping *yaml.Node, missing []string, value any) ([]byte, error) {
	if mapping.Style&yaml.FlowStyle == 0 {
		return nil, errExtent
	}
	at, err := d.offset(mapping)
	if err != nil || at >= len(d.text) || d.text[at] != '{' {
		return nil, errors.Join(errExtent, err)
	}
	text := strings.Join(missing, ": {") + ": " + scalar(value, nil) + strings.Repeat("}", len(missing)-1)
	if len(mapping.Content) > 0 {
		text += ", "
	}
	return d.splice(at+1, at+1, text), nil
}

// sameBut wants b to be a with value at path, and nothing else.
func sameBut(a, b *yaml.Node, path []string, value any) error {
	if len(path) == 0 {
		if !equal(b, value) {
			return fmt.Errorf("line %d: got %s, want %v", b.Line, kindOf(b), value)
		}
		return nil
	}
	if a == nil { // new: nothing but the rest of the path
		if b.Kind != yaml.MappingNode || len(b.Content) != 2 || b.Content[0].Value != path[0] {
			return fmt.Errorf("line %d: got other keys than %s", b.Line, path[0])
		}
		return sameBut(nil, b.Content[1], path[1:], value)
	}
	if a.Kind != yaml.MappingNode || b.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: got no mapping", b.Line)
	}
	seen, j := false, 0
	for i := 0; i < len(b.Content); i += 2 {
		key := b.Content[i]
		switch {
		case key.Kind == yaml.ScalarNode && key.Value == path[0]:
			var old *yaml.Node
			if j < len(a.Content) && a.Content[j].Kind == yaml.ScalarNode && a.Content[j].Value == path[0] {
				old = a.Content[j+1]
				j += 2
			}
			if err := sameBut(old, b.Content[i+1], path[1:], value); err != nil {
				return err
			}
			seen = true
		case j >= len(a.Content) || !same(a.Content[j], key) || !same(a.Content[j+1], b.Content[i+1]):
			return fmt.Errorf("line %d: got another value at %q", key.Line, key.Value)
		default:
			j += 2
		}
	}
	if j != len(a.Content) || !seen {
		return errors.New("got fewer keys than before")
	}
	return nil
}

// same compares nodes, without their places and comments.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Tag != b.Tag || a.Value != b.Value || a.Style != b.Style || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
