package parse

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// endToken is how end tokens and other control tokens of chat models look, with the role that follows one.
var endToken = regexp.MustCompile(`<[|｜](?:im_start|start_header_id)[|｜]>(?:system|user|assistant)?(?:<[|｜]end_header_id[|｜]>)?\n?|<start_of_turn>(?:user|model)?\n?` +
	`|<[|｜][^\s<>|｜]{1,64}[|｜]>|\[\|[^\s\[\]|]{1,64}\|\]|</?s>|<(?:bos|eos|pad|unk)>|<end_of_turn>|\[/?INST\]`)

// Clean makes the working copy of a reply: NFC, line ends \n (a literal backslash-n is one), plain spaces, without
// invisible characters, thoughts of the model (<think>), code fences and end tokens. Nothing is added.
func Clean(text string) string {
	text = cleanThoughts(cleanRunes(text))
	if strings.Contains(text, `\n`) {
		text = strings.ReplaceAll(text, `\n`, "\n")
	}
	if strings.ContainsAny(text, "<[") {
		text = endToken.ReplaceAllString(text, "")
	}
	if strings.Contains(text, "```") || strings.Contains(text, "~~~") {
		text = cleanFences(text)
	}
	return text
}

// cleanRunes does what concerns single characters.
func cleanRunes(text string) string {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "")
	}
	if strings.Contains(text, "\r") {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	composed := true // as far as that is plain to see
	text = strings.Map(func(r rune) rune {
		composed = composed && (r < 0x300 || r >= '가' && r <= '힣' || r >= 0x2010 && r <= 0x203a)
		switch {
		case r >= '가' && r <= '힣' || r >= ' ' && r < 0x7f || r == '\n':
			return r
		case r == '\u2028' || r == '\u2029' || r == '\u0085':
			return '\n'
		case r == '\t' || unicode.Is(unicode.Zs, r):
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u3164' || r == '\u115f' || r == '\u1160' || r == '\uffa0' ||
			r >= '\ufe00' && r <= '\ufe0f':
			return -1
		}
		return r
	}, text)
	if !composed && !norm.NFC.IsNormalString(text) {
		text = norm.NFC.String(text)
	}
	return text
}

// cleanThoughts takes out <think>…</think>, and what stands before a closing tag without an opening one.
func cleanThoughts(text string) string {
	const begin, end = "<think>", "</think>"
	if !strings.Contains(text, "think>") {
		return text
	}
	var b strings.Builder
	if at := strings.Index(text, end); at >= 0 && !strings.Contains(text[:at], begin) {
		text = text[at+len(end):]
	}
	for {
		at := strings.Index(text, begin)
		if at < 0 {
			b.WriteString(text)
			break
		}
		b.WriteString(text[:at])
		close := strings.Index(text[at:], end)
		if close < 0 { // cut off while thinking
			break
		}
		text = text[at+close+len(end):]
	}
	return strings.ReplaceAll(b.String(), end, "")
}

func cleanFences(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if t := strings.TrimSpace(line); !strings.HasPrefix(t, "```") && !strings.HasPrefix(t, "~~~") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// squeeze makes runs of spaces one and trims.
func squeeze(s string) string {
	if s = strings.TrimSpace(s); !strings.Contains(s, "  ") {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
}

// plain takes markdown out of a line of text: heading, quote and list marks before it, emphasis and code marks in
// it, and backslashes before marks. A stage direction of several words between single asterisks keeps them.
func plain(line string) string {
	line = strings.TrimSpace(line)
	for {
		rest := strings.TrimLeft(line, " ")
		switch {
		case strings.HasPrefix(rest, "#") && strings.Trim(rest, "#") == "":
			return ""
		case strings.HasPrefix(rest, "#"), strings.HasPrefix(rest, "> "), strings.HasPrefix(rest, ">>"):
			rest = strings.TrimLeft(rest, "#>")
		case strings.HasPrefix(rest, "- "), strings.HasPrefix(rest, "* "), strings.HasPrefix(rest, "+ "):
			rest = rest[2:]
		case strings.HasPrefix(rest, "• "):
			rest = rest[len("• "):]
		}
		if rest == line {
			break
		}
		line = rest
	}
	return squeeze(emphasis(strings.TrimRight(line, `\ `))) // a backslash at the end is a line end in markdown
}

var escapedMark = regexp.MustCompile("\\\\([\"'*_#:`\\[\\]()~>-])")

func emphasis(s string) string {
	if strings.Contains(s, `\`) {
		s = escapedMark.ReplaceAllString(s, "$1")
	}
	if !strings.ContainsAny(s, "*_`~") {
		return s
	}
	for _, mark := range []string{"**", "__", "`", "~~"} {
		s = strings.ReplaceAll(s, mark, "")
	}
	if !strings.Contains(s, "*") {
		return s
	}
	var b strings.Builder
	for s != "" {
		at := strings.IndexByte(s, '*')
		if at < 0 {
			break
		}
		b.WriteString(s[:at])
		close := strings.IndexByte(s[at+1:], '*')
		if close < 0 {
			if at == 0 || s[at+1:] == "" { // a lone mark at an edge
				s = s[at+1:]
				break
			}
			b.WriteByte('*')
			s = s[at+1:]
			break
		}
		inner := s[at+1 : at+1+close]
		if isDirection(inner) {
			b.WriteString("*" + inner + "*")
		} else {
			b.WriteString(inner)
		}
		s = s[at+close+2:]
	}
	return b.String() + s
}

// directionEnds are how a short stage direction of one word ends.
var directionEnds = []string{"며", "면서", "듯", "듯이", "채", "다", "음", "히", "게", "ing", "ly", "s"}

// isDirection tells a stage direction between asterisks from an emphasised word.
func isDirection(inner string) bool {
	inner = strings.TrimRight(strings.TrimSpace(inner), ".!…")
	if strings.Contains(inner, " ") {
		return true
	}
	for _, end := range directionEnds {
		if strings.HasSuffix(inner, end) && utf8.RuneCountInString(inner) >= 2 {
			return true
		}
	}
	return false
}

// brackets that enclose directions and actions.
var brackets = map[rune]rune{'(': ')', '（': '）', '[': ']', '【': '】'}

// cutGroup takes a bracketed group off the begin of s. The bracket must close on the line.
func cutGroup(s string) (inner, rest string, ok bool) {
	first, size := utf8.DecodeRuneInString(s)
	end, ok := brackets[first]
	if !ok {
		return "", s, false
	}
	depth := 0
	for i, r := range s {
		switch r {
		case first:
			depth++
		case end:
			if depth--; depth == 0 {
				return strings.TrimSpace(s[size:i]), s[i+utf8.RuneLen(r):], true
			}
		case '\n':
			return "", s, false
		}
	}
	return "", s, false
}
