package yamledit

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// offset is where a node begins. The parser counts lines and characters from 1.
func (d *Document) offset(n *yaml.Node) (int, error) {
	if n.Line < 1 || n.Line > len(d.lines) || n.Column < 1 {
		return 0, fmt.Errorf("line %d: got a node outside the text", n.Line)
	}
	at := d.lines[n.Line-1]
	for range n.Column - 1 {
		if at >= len(d.text) {
			return 0, fmt.Errorf("line %d: got a node behind the end of the text", n.Line)
		}
		_, size := utf8.DecodeRune(d.text[at:])
		at += size
	}
	return at, nil
}

// lineEnd is the offset of the end of the line that holds at, before its line end.
func (d *Document) lineEnd(at int) int {
	end := at + strings.IndexByte(string(d.text[at:])+"\n", '\n')
	if end > at && end <= len(d.text) && d.text[end-1] == '\r' {
		end--
	}
	return end
}

var errExtent = errors.New("got a form that cannot be edited in place")

// extent is the range of the text that a value takes, without anchors and tags. A value that is nothing has none.
func (d *Document) extent(n *yaml.Node) (start, end int, err error) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		return 0, 0, fmt.Errorf("line %d: got %s, want the value itself", n.Line, kindOf(n))
	}
	if start, err = d.offset(n); err != nil {
		return 0, 0, err
	}
	switch {
	case n.Kind != yaml.ScalarNode && n.Style&yaml.FlowStyle != 0:
		end, err = d.flowEnd(start)
	case n.Kind != yaml.ScalarNode:
		if len(n.Content) == 0 {
			return 0, 0, fmt.Errorf("line %d: %w", n.Line, errExtent)
		}
		end, err = d.lastEnd(n)
	case n.Style&yaml.DoubleQuotedStyle != 0:
		end, err = d.quotedEnd(start, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		end, err = d.quotedEnd(start, '\'')
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		end = d.blockEnd(start)
	default:
		end, err = d.plainEnd(start, n.Value)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("line %d: %w", n.Line, err)
	}
	return start, end, nil
}

// lastEnd is where the last thing in a mapping or list ends.
func (d *Document) lastEnd(n *yaml.Node) (int, error) {
	last := n.Content[len(n.Content)-1]
	if n.Kind == yaml.MappingNode && isNothing(last) {
		return d.colon(n.Content[len(n.Content)-2])
	}
	if isNothing(last) {
		return 0, errExtent
	}
	_, end, err := d.extent(last)
	return end, err
}

// isNothing reports whether a value is not even a word for null.
func isNothing(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value == ""
}

// colon is the offset behind the colon of a key.
func (d *Document) colon(key *yaml.Node) (int, error) {
	_, end, err := d.extent(key)
	if err != nil {
		return 0, err
	}
	for end < len(d.text) && (d.text[end] == ' ' || d.text[end] == '\t') {
		end++
	}
	if end >= len(d.text) || d.text[end] != ':' {
		return 0, fmt.Errorf("line %d: %w", key.Line, errExtent)
	}
	return end + 1, nil
}

// quotedEnd is the offset behind the closing quote.
func (d *Document) quotedEnd(at int, quote byte) (int, error) {
	if at >= len(d.text) || d.text[at] != quote {
		return 0, errExtent
	}
	for i := at + 1; i < len(d.text); i++ {
		switch {
		case quote == '"' && d.text[i] == '\\':
			i++
		case d.text[i] == quote && quote == '\'' && i+1 < len(d.text) && d.text[i+1] == quote:
			i++
		case d.text[i] == quote:
			return i + 1, nil
		}
	}
	return 0, errExtent
}

// plainEnd follows the value through the text: a line end in it is a space, two are one, and so on.
func (d *Document) plainEnd(at int, value string) (int, error) {
	for value != "" {
		if at >= len(d.text) {
			return 0, errExtent
		}
		next := at
		breaks := 0
		for next < len(d.text) && strings.IndexByte(" \t\r\n", d.text[next]) >= 0 {
			if d.text[next] == '\n' {
				breaks++
			}
			next++
		}
		if breaks > 0 {
			want := " "
			if breaks > 1 {
				want = strings.Repeat("\n", breaks-1)
			}
			rest, ok := strings.CutPrefix(value, want)
			if !ok {
				return 0, errExtent
			}
			at, value = next, rest
			continue
		}
		if d.text[at] != value[0] {
			return 0, errExtent
		}
		at, value = at+1, value[1:]
	}
	return at, nil
}

// blockEnd is the end of the last line of a block text that is not empty.
func (d *Document) blockEnd(at int) int {
	end := d.lineEnd(at)
	header, _, _ := strings.Cut(string(d.text[at:end]), "#")
	indent := -1
	if i := strings.IndexAny(header, "123456789"); i >= 0 {
		indent = d.parentIndent(at) + int(header[i]-'0')
	}
	for next := end; next < len(d.text); {
		begin := next + strings.IndexByte(string(d.text[next:]), '\n') + 1
		if begin <= next || begin >= len(d.text) {
			break
		}
		next = d.lineEnd(begin)
		line := string(d.text[begin:next])
		spaces := len(line) - len(strings.TrimLeft(line, " "))
		if strings.TrimSpace(line) == "" && (indent < 0 || spaces <= indent) {
			continue
		}
		if indent < 0 {
			if spaces <= d.parentIndent(at) {
				break
			}
			indent = spaces
		}
		if spaces < indent {
			break
		}
		end = next
	}
	return end
}

// parentIndent is the indentation of the line that at is on: that of the key in a block mapping.
func (d *Document) parentIndent(at int) int {
	begin := strings.LastIndexByte(string(d.text[:at]), '\n') + 1
	spaces := 0
	for begin+spaces < at && (d.text[begin+spaces] == ' ' || d.text[begin+spaces] == '-' && d.text[begin+spaces+1] == ' ') {
		spaces++
	}
	return spaces
}

// flowEnd is the offset behind the bracket that closes the one at at.
func (d *Document) flowEnd(at int) (int, error) {
	depth := 0
	for i := at; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		case (c == '"' || c == '\'') && strings.IndexByte(" \t\r\n[{,:", d.text[i-1]) >= 0:
			end, err := d.quotedEnd(i, c)
			if err != nil {
				return 0, err
			}
			i = end - 1
		case c == '#' && strings.IndexByte(" \t\r\n", d.text[i-1]) >= 0:
			i = d.lineEnd(i) - 1
		}
		if depth == 0 {
			return 0, errExtent
		}
	}
	return 0, errExtent
}
