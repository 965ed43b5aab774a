package convert

import (
	"path/filepath"
	"strings"
	"unicode"
)

// The reference's naming rules are written with Python's string methods; these
// are the ones that differ from Go's.

// isPySpace is str.isspace for one character: white space, and the four
// separators U+001C to U+001F.
func isPySpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}

// pyStrip is str.strip().
func pyStrip(s string) string { return strings.TrimFunc(s, isPySpace) }

// pyFields is str.split().
func pyFields(s string) []string { return strings.FieldsFunc(s, isPySpace) }

// isDecimal is str.isdecimal for one character.
func isDecimal(r rune) bool { return unicode.Is(unicode.Nd, r) }

// isCased tells whether a character has case.
func isCased(r rune) bool {
	return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r) ||
		unicode.Is(unicode.Other_Lowercase, r) || unicode.Is(unicode.Other_Uppercase, r)
}

// isPyLower is str.islower(): at least one cased character, and none that is
// upper or title case.
func isPyLower(s string) bool {
	cased := false
	for _, r := range s {
		if unicode.IsUpper(r) || unicode.IsTitle(r) || unicode.Is(unicode.Other_Uppercase, r) {
			return false
		}
		cased = cased || isCased(r)
	}
	return cased
}

// pyTitle is str.title() of a lower-case word: the first letter of every run
// of cased characters goes to title case.
func pyTitle(s string) string {
	var b strings.Builder
	prev := false
	for _, r := range s {
		switch {
		case prev:
			b.WriteRune(unicode.ToLower(r))
		case r == 'ß':
			b.WriteString("Ss")
		default:
			b.WriteRune(unicode.ToTitle(r))
		}
		prev = isCased(r)
	}
	return b.String()
}

// pySplitLines is str.splitlines().
func pySplitLines(s string) []string {
	var lines []string
	for s != "" {
		i := strings.IndexFunc(s, isLineBreak)
		if i < 0 {
			return append(lines, s)
		}
		lines = append(lines, s[:i])
		if strings.HasPrefix(s[i:], "\r\n") {
			i++
		}
		_, size := decodeRune(s[i:])
		s = s[i+size:]
	}
	return lines
}

func isLineBreak(r rune) bool {
	switch r {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

func decodeRune(s string) (rune, int) {
	for i, r := range s {
		if i == 0 {
			return r, len(string(r))
		}
	}
	return 0, 0
}

// pathName is pathlib's Path(dir).name: the last component without looking at
// the disk, empty for "." and "/".
func pathName(dir string) string {
	name := ""
	for _, part := range strings.Split(filepath.ToSlash(dir), "/") {
		if part != "" && part != "." {
			name = part
		}
	}
	return name
}
