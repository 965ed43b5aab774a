package quant

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// llama-quantize matches tensor names with std::regex in its default, ECMAScript
// syntax, byte by byte. compilePattern understands that syntax as libstdc++ does
// (bits/regex_scanner.tcc, bits/regex_compiler.tcc) and rewrites it for Go's
// regexp, where the two differ:
//
//	.            is every byte but \n and \r
//	\s           includes \v
//	\cX          is X itself, a quirk of libstdc++
//	\q           is q, for every letter without a meaning; \a and \Q are no exception
//	[] and [^]   are nothing and everything
//	[\b]         is a backspace
//	{ ( * + ?    are errors where they have nothing to work on; ^* too
//	(?i) (?P<n>) \A \z \p{…} and what else only Go knows: errors, or plain letters
//
// What Go's regexp cannot express is an error: back-references, look-ahead,
// collating elements, and repetition counts above 1000.
//
// Names are matched as Latin-1, so that a byte is a character on both sides.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	t := &translator{src: pattern}
	if err := t.disjunction(0); err != nil {
		return nil, fmt.Errorf("pattern %q: at byte %d: %w", pattern, t.pos, err)
	}
	if t.pos < len(t.src) {
		return nil, fmt.Errorf("pattern %q: at byte %d: unexpected %q", pattern, t.pos, t.src[t.pos])
	}
	re, err := regexp.Compile(t.out.String())
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %s", pattern, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}

// matches searches name as compilePattern's doc says.
func matches(re *regexp.Regexp, name string) bool { return re.MatchString(latin1(name)) }

// latin1 makes every byte of s a rune.
func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

const maxNesting = 200

var (
	errNothingToRepeat = errors.New("nothing to repeat")
	errLookahead       = errors.New("look-ahead (?= and (?! is unsupported: Go's regular expressions cannot express it")
	errBackReference   = errors.New("back-reference is unsupported: Go's regular expressions cannot express it")
	errEnd             = errors.New("unexpected end of the pattern")
)

type translator struct {
	src string
	pos int
	out strings.Builder
}

func (t *translator) more() bool { return t.pos < len(t.src) }

func (t *translator) peek() byte { return t.src[t.pos] }

func (t *translator) take(s string) bool {
	if strings.HasPrefix(t.src[t.pos:], s) {
		t.pos += len(s)
		return true
	}
	return false
}

// literal writes one byte that stands for itself.
func literal(c byte) string {
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' {
		return string(rune(c))
	}
	return fmt.Sprintf(`\x{%02x}`, c)
}

// disjunction translates alternatives up to the end or a closing parenthesis.
func (t *translator) disjunction(depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("got more than %d groups inside each other", maxNesting)
	}
	for {
		for t.more() && t.peek() != '|' && t.peek() != ')' {
			if err := t.term(depth); err != nil {
				return err
			}
		}
		if !t.take("|") {
			return nil
		}
		t.out.WriteByte('|')
	}
}

// term translates an assertion, or an atom with its repetition.
func (t *translator) term(depth int) error {
	switch {
	case t.take("^"):
		t.out.WriteString(`\A`)
		return nil
	case t.take("$"):
		t.out.WriteString(`\z`)
		return nil
	case t.take(`\b`):
		t.out.WriteString(`\b`)
		return nil
	case t.take(`\B`):
		t.out.WriteString(`\B`)
		return nil
	case strings.HasPrefix(t.src[t.pos:], "(?=") || strings.HasPrefix(t.src[t.pos:], "(?!"):
		return errLookahead
	}
	t.out.WriteString("(?:") // so that a second repetition applies to the first one's result, as in libstdc++
	if err := t.atom(depth); err != nil {
		return err
	}
	t.out.WriteByte(')')
	if err := t.quantifier(); err != nil {
		return err
	}
	if t.more() && strings.IndexByte("*+?{", t.peek()) >= 0 {
		return errors.New("repetition of a repetition is unsupported: write a group")
	}
	return nil
}

func (t *translator) atom(depth int) error {
	c := t.peek()
	t.pos++
	switch c {
	case '.':
		t.out.WriteString(`[^\n\r]`)
	case '(':
		return t.group(depth)
	case '[':
		return t.bracket()
	case '\\':
		s, _, err := t.escape()
		if err != nil {
			return err
		}
		t.out.WriteString(s)
	case '*', '+', '?', '{':
		t.pos--
		return errNothingToRepeat
	case 0:
		t.pos--
		return errors.New("got a zero byte")
	default:
		t.out.WriteString(literal(c))
	}
	return nil
}

func (t *translator) group(depth int) error {
	if t.take("?") && !t.take(":") {
		return errors.New("group that begins with (? is unsupported, except (?:")
	}
	t.out.WriteString("(?:")
	if err := t.disjunction(depth + 1); err != nil {
		return err
	}
	if !t.take(")") {
		return errEnd
	}
	t.out.WriteByte(')')
	return nil
}

// quantifier translates * + ? {n} {n,} {n,m}, each with an optional ? after it.
func (t *translator) quantifier() error {
	if !t.more() {
		return nil
	}
	begin := t.pos
	switch t.peek() {
	case '*', '+', '?':
		t.pos++
	case '{':
		t.pos++
		if err := t.counts(); err != nil {
			return err
		}
	default:
		return nil
	}
	t.out.WriteString(t.src[begin:t.pos])
	t.take("?") // lazy: makes no difference to whether there is a match
	return nil
}

// counts reads the inside of braces.
func (t *translator) counts() error {
	number := func() (int, bool) {
		begin := t.pos
		for t.more() && t.peek() >= '0' && t.peek() <= '9' {
			t.pos++
		}
		n, err := strconv.Atoi(t.src[begin:t.pos])
		return n, err == nil
	}
	low, ok := number()
	if !ok {
		return errors.New("want a number after {")
	}
	if t.take(",") {
		if high, ok := number(); ok && high < low {
			return fmt.Errorf("got {%d,%d}, want the smaller count first", low, high)
		}
	}
	if !t.take("}") {
		return errors.New("want } after the counts")
	}
	return nil
}

var (
	classes       = map[byte]string{'d': `0-9`, 'w': `0-9A-Za-z_`, 's': `\t\n\v\f\r\x{20}`}
	controls      = map[byte]byte{'0': 0, 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
	posixClasses  = []string{"alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"}
	errClassRange = errors.New("got a class as an end of a range")
)

// escape translates what follows a backslash outside brackets: a class, or one
// byte, which single then holds.
func (t *translator) escape() (s string, single int, err error) {
	if !t.more() {
		return "", -1, errEnd
	}
	c := t.peek()
	t.pos++
	if class, ok := classes[c|0x20]; ok {
		if c < 'a' {
			return "[^" + class + "]", -1, nil
		}
		return "[" + class + "]", -1, nil
	}
	b, err := t.escapedByte(c)
	return literal(b), int(b), err
}

// escapedByte gives the byte for backslash and c, which is no class.
func (t *translator) escapedByte(c byte) (byte, error) {
	if b, ok := controls[c]; ok {
		return b, nil
	}
	switch {
	case c >= '1' && c <= '9':
		return 0, errBackReference
	case c == 'c':
		if !t.more() {
			return 0, errEnd
		}
		t.pos++
		return t.src[t.pos-1], nil
	case c == 'x' || c == 'u':
		n := 2
		if c == 'u' {
			n = 4
		}
		if len(t.src)-t.pos < n {
			return 0, errEnd
		}
		v, err := strconv.ParseUint(t.src[t.pos:t.pos+n], 16, 16)
		if err != nil || v > 0xff {
			return 0, fmt.Errorf(`got \%c%s, want %d hexadecimal digits of one byte`, c, t.src[t.pos:t.pos+n], n)
		}
		t.pos += n
		return byte(v), nil
	}
	return c, nil
}

// bracket translates a set after its opening bracket.
func (t *translator) bracket() error {
	negated := t.take("^")
	var set strings.Builder
	const none, class = -2, -1
	last := none // what stands before: a byte, a class, or none of which a range can begin
	for !t.take("]") {
		dash := t.take("-")
		switch {
		case !t.more():
			return errEnd
		case dash && last == class && t.peek() != ']':
			return errClassRange
		case dash && (last == none || t.peek() == ']'):
			set.WriteString(literal('-'))
			last = '-'
		case dash:
			_, to, err := t.element()
			if err != nil {
				return err
			}
			if to < 0 {
				return errClassRange
			}
			if to < last {
				return fmt.Errorf("got the range %q-%q, want the smaller byte first", byte(last), byte(to))
			}
			set.WriteString(literal(byte(last)) + "-" + literal(byte(to)))
			last = none
		default:
			s, single, err := t.element()
			if err != nil {
				return err
			}
			set.WriteString(s)
			last = single
		}
	}
	switch {
	case set.Len() > 0 && negated:
		t.out.WriteString("[^" + set.String() + "]")
	case set.Len() > 0:
		t.out.WriteString("[" + set.String() + "]")
	case negated:
		t.out.WriteString(`(?s:.)`)
	default:
		t.out.WriteString(`[^\x00-\x{10ffff}]`)
	}
	return nil
}

// element translates one element of a set; single is -1 for a class.
func (t *translator) element() (s string, single int, err error) {
	if !t.more() {
		return "", -1, errEnd
	}
	for _, open := range []string{"[.", "[="} {
		if strings.HasPrefix(t.src[t.pos:], open) {
			return "", -1, fmt.Errorf("collating element %s is unsupported", open)
		}
	}
	if t.take("[:") {
		name, _, ok := strings.Cut(t.src[t.pos:], ":]")
		for _, class := range posixClasses {
			if ok && name == class {
				t.pos += len(name) + 2
				return "[:" + name + ":]", -1, nil
			}
		}
		return "", -1, fmt.Errorf("got the class %q, want one of %s", name, strings.Join(posixClasses, " "))
	}
	c := t.peek()
	t.pos++
	if c != '\\' {
		return literal(c), int(c), nil
	}
	if !t.more() {
		return "", -1, errEnd
	}
	if class, ok := classes[t.peek()|0x20]; ok {
		if t.peek() < 'a' {
			return "", -1, errors.New(`\D, \S and \W inside a set are unsupported`)
		}
		t.pos++
		return class, -1, nil
	}
	t.pos++
	b, err := t.escapedByte(t.src[t.pos-1])
	return literal(b), int(b), err
}
