package convert

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON parses one JSON document strictly: RFC 8259 in valid UTF-8, no
// trailing bytes, no NaN or Infinity, no number beyond float64, no lone
// surrogate.
func parseJSON(data []byte) (any, error) {
	p := &jsonParser{data: data, text: string(data)}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	v, err := p.value(0)
	if err == nil {
		p.space()
		if p.pos != len(data) {
			err = errors.New("data after the end of the document")
		}
	}
	if err != nil {
		line, col := p.lineCol()
		return nil, fmt.Errorf("line %d, column %d: %w", line, col, err)
	}
	return v, nil
}

type jsonParser struct {
	data []byte
	text string // the same; what is parsed are parts of it
	pos  int
}

func (p *jsonParser) lineCol() (line, col int) {
	line, col = 1, 1
	for _, b := range p.data[:min(p.pos, len(p.data))] {
		if b == '\n' {
			line, col = line+1, 1
		} else {
			col++
		}
	}
	return line, col
}

func (p *jsonParser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, 0 at the end.
func (p *jsonParser) peek() byte {
	p.space()
	if p.pos >= len(p.data) {
		return 0
	}
	return p.data[p.pos]
}

func (p *jsonParser) value(depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.string()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 0 && p.pos >= len(p.data):
		return nil, errors.New("unexpected end of file")
	}
	for _, lit := range []struct {
		text string
		val  any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if p.pos+len(lit.text) <= len(p.data) && string(p.data[p.pos:p.pos+len(lit.text)]) == lit.text {
			p.pos += len(lit.text)
			return lit.val, nil
		}
	}
	return nil, fmt.Errorf("unexpected %q, want a value", p.excerpt())
}

func (p *jsonParser) excerpt() string {
	end := min(p.pos+12, len(p.data))
	return string(p.data[p.pos:end])
}

func (p *jsonParser) object(depth int) (any, error) {
	p.pos++ // {
	var keys []string
	var vals []any
	if p.peek() == '}' {
		p.pos++
		return newObject(), nil
	}
	for {
		if p.peek() != '"' {
			return nil, fmt.Errorf("unexpected %q, want a key", p.excerpt())
		}
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if p.peek() != ':' {
			return nil, fmt.Errorf("unexpected %q after the key %q, want ':'", p.excerpt(), key)
		}
		p.pos++
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		keys, vals = append(keys, key), append(vals, v)
		switch p.peek() {
		case ',':
			p.pos++
		case '}':
			p.pos++
			return newObjectOf(keys, vals), nil
		default:
			return nil, fmt.Errorf("unexpected %q in an object, want ',' or '}'", p.excerpt())
		}
	}
}

func (p *jsonParser) array(depth int) (any, error) {
	p.pos++ // [
	list := []any{}
	if p.peek() == ']' {
		p.pos++
		return list, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		switch p.peek() {
		case ',':
			p.pos++
		case ']':
			p.pos++
			return list, nil
		default:
			return nil, fmt.Errorf("unexpected %q in an array, want ',' or ']'", p.excerpt())
		}
	}
}

// number parses an integer (no fraction, no exponent) as int64 or *big.Int and
// anything else as float64, as Python tells int from float.
func (p *jsonParser) number() (any, error) {
	start := p.pos
	digits := func() int {
		n := p.pos
		for p.pos < len(p.data) && p.data[p.pos] >= '0' && p.data[p.pos] <= '9' {
			p.pos++
		}
		return p.pos - n
	}
	if p.data[p.pos] == '-' {
		p.pos++
	}
	intStart := p.pos
	n := digits()
	if n == 0 || n > 1 && p.data[intStart] == '0' {
		p.pos = start
		return nil, fmt.Errorf("unexpected %q, want a number", p.excerpt())
	}
	isFloat := false
	if p.pos < len(p.data) && p.data[p.pos] == '.' {
		isFloat = true
		p.pos++
		if digits() == 0 {
			return nil, errors.New("number without digits after the point")
		}
	}
	if p.pos < len(p.data) && (p.data[p.pos] == 'e' || p.data[p.pos] == 'E') {
		isFloat = true
		p.pos++
		if p.pos < len(p.data) && (p.data[p.pos] == '+' || p.data[p.pos] == '-') {
			p.pos++
		}
		if digits() == 0 {
			return nil, errors.New("number without digits in the exponent")
		}
	}
	return convertNumber(p.text[start:p.pos], isFloat)
}

func convertNumber(text string, isFloat bool) (any, error) {
	if !isFloat {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, nil
		}
		if len(text) > 400 {
			return nil, fmt.Errorf("integer of %d digits, want at most 400", len(text))
		}
		b, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return nil, fmt.Errorf("bad integer %q", text)
		}
		return b, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("number %s does not fit a 64-bit float", text)
	}
	return f, nil
}

func (p *jsonParser) string() (string, error) {
	p.pos++ // "
	start := p.pos
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '"':
			s := p.text[start:p.pos]
			p.pos++
			return s, nil
		case c == '\\':
			return p.escapedString(start)
		case c < 0x20:
			return "", fmt.Errorf("control character U+%04X in a string", c)
		}
		p.pos++
	}
	return "", errors.New("string without end")
}

// escapedString goes on with a string in which the first backslash was found
// at p.pos.
func (p *jsonParser) escapedString(start int) (string, error) {
	buf := append([]byte(nil), p.data[start:p.pos]...)
	for p.pos < len(p.data) {
		c := p.data[p.pos]
		switch {
		case c == '"':
			p.pos++
			return string(buf), nil
		case c < 0x20:
			return "", fmt.Errorf("control character U+%04X in a string", c)
		case c != '\\':
			buf = append(buf, c)
			p.pos++
			continue
		}
		r, err := p.escape()
		if err != nil {
			return "", err
		}
		buf = utf8.AppendRune(buf, r)
	}
	return "", errors.New("string without end")
}

var simpleEscapes = map[byte]rune{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape parses one escape sequence at p.pos.
func (p *jsonParser) escape() (rune, error) {
	if p.pos+1 >= len(p.data) {
		return 0, errors.New("string without end")
	}
	c := p.data[p.pos+1]
	if r, ok := simpleEscapes[c]; ok {
		p.pos += 2
		return r, nil
	}
	if c != 'u' {
		return 0, fmt.Errorf("unknown escape %q", p.data[p.pos:p.pos+2])
	}
	hi, err := p.hex4()
	if err != nil {
		return 0, err
	}
	if !utf16.IsSurrogate(hi) {
		return hi, nil
	}
	if p.pos+1 < len(p.data) && p.data[p.pos] == '\\' && p.data[p.pos+1] == 'u' {
		lo, err := p.hex4()
		if err != nil {
			return 0, err
		}
		if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, fmt.Errorf("lone surrogate U+%04X in a string", hi)
}

func (p *jsonParser) hex4() (rune, error) {
	if p.pos+6 > len(p.data) {
		return 0, errors.New("string without end")
	}
	n, err := strconv.ParseUint(string(p.data[p.pos+2:p.pos+6]), 16, 16)
	if err != nil {
		return 0, fmt.Errorf("bad escape %q", p.data[p.pos:p.pos+6])
	}
	p.pos += 6
	return rune(n), nil
}
