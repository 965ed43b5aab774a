package yamledit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// plainText is a text that every reader takes for one without quotes.
var plainText = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_./-]*( [\p{L}\p{N}_./-]+)*$`)

// words that readers take for something else than text.
var words = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"}

// scalar writes a value in the style of the one it replaces; old is nil for a new key.
func scalar(value any, old *yaml.Node) string {
	switch v := value.(type) {
	case string:
		return textScalar(v, old)
	case bool:
		return boolScalar(v, old)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		text := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = doubleQuoted(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "null"
}

func textScalar(s string, old *yaml.Node) string {
	printable := !strings.ContainsFunc(s, func(r rune) bool { return !isPrintable(r) || r == '\n' || r == '\t' })
	style := yaml.SingleQuotedStyle
	if old != nil && old.Kind == yaml.ScalarNode {
		style = old.Style
	}
	switch {
	case !printable || style&yaml.DoubleQuotedStyle != 0:
		return doubleQuoted(s)
	case style == 0 && plainText.MatchString(s) && !slices.Contains(words, strings.ToLower(s)):
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// isPrintable are the characters that may stand in YAML without an escape, and that no reader takes for a line end.
func isPrintable(r rune) bool {
	return r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) && r != '\u2028' && r != '\u2029' && r != '\ufeff' &&
		(r < 0xfffe || r > 0xffff) && r != unicode.ReplacementChar
}

// doubleQuoted is s as JSON has it, which YAML's double quotes read alike.
func doubleQuoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded
	text := strings.TrimSuffix(b.String(), "\n")
	var out strings.Builder
	for _, r := range text {
		if isPrintable(r) {
			out.WriteRune(r)
		} else if r < 0x10000 {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	return out.String()
}

func boolScalar(v bool, old *yaml.Node) string {
	text := "False"
	if v {
		text = "True"
	}
	if old == nil || old.Kind != yaml.ScalarNode {
		return text
	}
	if _, ok := boolOf(old); !ok {
		return text
	}
	switch old.Value {
	case strings.ToLower(old.Value):
		return strings.ToLower(text)
	case strings.ToUpper(old.Value):
		return strings.ToUpper(text)
	}
	return text
}

// block writes a text of several lines as a literal block: its header, and its lines with indent in front. ok is
// false for a text that has to be quoted.
func block(s, indent, eol string) (header, lines string, ok bool) {
	body := strings.TrimRight(s, "\n")
	if !strings.Contains(s, "\n") || body == "" || strings.HasPrefix(body, " ") || strings.HasPrefix(body, "\n") || strings.HasPrefix(body, "\t") ||
		strings.ContainsFunc(s, func(r rune) bool { return !isPrintable(r) }) {
		return "", "", false
	}
	header = "|-"
	if n := len(s) - len(body); n == 1 {
		header = "|"
	} else if n > 1 {
		return "", "", false // the empty lines would run into what follows
	}
	var b strings.Builder
	for line := range strings.SplitSeq(body, "\n") {
		b.WriteString(eol)
		if line != "" {
			b.WriteString(indent + line)
		}
	}
	return header, b.String(), true
}

// equal reports whether a node has the value already.
func equal(n *yaml.Node, value any) bool {
	have, err := valueOf(n)
	if err != nil {
		return false
	}
	switch v := value.(type) {
	case []string:
		list, ok := have.([]string)
		return ok && slices.Equal(list, v)
	case float64:
		if i, ok := have.(int64); ok {
			return float64(i) == v
		}
	}
	if _, ok := have.([]string); ok {
		return false
	}
	return have == value
}
