package persona

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// The length of a paragraph that scenes come out well with, in code points.
const (
	MinParagraph = 150
	MaxParagraph = 350
)

// maxName is the length of the longest first line of a profile that is taken for a name.
const maxName = 40

// Profile is the text about a character that scenes are made from.
type Profile struct {
	Name       string // as the first line has it, without "# "; "" if the text begins with a paragraph
	Paragraphs []Paragraph
}

// Paragraph is one block of a profile.
type Paragraph struct {
	ID   string // hash of the text, 16 hex digits: the same wherever the paragraph stands
	Text string // its lines, joined by a space
	Line int    // its first line in the file, from 1
}

// SeedProfile is where the profile of a character lies under a data folder of the older scripts.
func SeedProfile(root, character, language string) string {
	return filepath.Join(root, "data", "seed_data", "profiles", "wiki_"+character+"-"+language+".txt")
}

// ReadProfile reads a profile: the name on the first line, with or without "# ", then paragraphs with empty lines
// between them. Without any empty line the lines after the name are one paragraph; a file that has no name either
// has one paragraph a line.
func ReadProfile(path string) (*Profile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	if len(data) > maxCard {
		return nil, fmt.Errorf("read profile %s: too large: got %d bytes, want at most %d", path, len(data), maxCard)
	}
	p, err := ParseProfile(string(data))
	if err != nil {
		return nil, fmt.Errorf("read profile %s: %w", path, err)
	}
	return p, nil
}

// ParseProfile reads the text of a profile; see ReadProfile.
func ParseProfile(text string) (*Profile, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("got bytes that are not UTF-8")
	}
	text = strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n")
	lines := strings.Split(text, "\n")
	first := 0
	for first < len(lines) && strings.TrimSpace(lines[first]) == "" {
		first++
	}
	if first == len(lines) {
		return nil, errors.New("got no text, want a name and paragraphs")
	}
	p := &Profile{}
	if name, ok := profileName(lines[first]); ok {
		p.Name = name
		first++
	}
	blank := strings.Contains(strings.TrimSpace(strings.Join(lines[first:], "\n")), "\n\n")
	var block []string
	start := 0
	flush := func() {
		if len(block) > 0 {
			text := strings.Join(block, " ")
			sum := sha256.Sum256([]byte(text))
			p.Paragraphs = append(p.Paragraphs, Paragraph{hex.EncodeToString(sum[:8]), text, start})
		}
		block = nil
	}
	for i, line := range lines[first:] {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || p.Name == "" && !blank {
			flush()
		}
		if line != "" {
			if block == nil {
				start = first + i + 1
			}
			block = append(block, line)
		}
	}
	flush()
	if len(p.Paragraphs) == 0 {
		return nil, errors.New("got a name only, want paragraphs too")
	}
	return p, nil
}

// profileName tells a name from a sentence.
func profileName(line string) (string, bool) {
	line = strings.TrimSpace(line)
	name := strings.TrimSpace(strings.TrimLeft(line, "#"))
	marked := strings.HasPrefix(line, "#")
	if name == "" || utf8.RuneCountInString(name) > maxName || !marked && strings.ContainsAny(name, ".!?。…") {
		return "", false
	}
	return name, true
}

// Text is all paragraphs, with empty lines between them.
func (p *Profile) Text() string {
	var b strings.Builder
	for i, paragraph := range p.Paragraphs {
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(paragraph.Text)
	}
	return b.String()
}

// Lint gives one line for everything that makes worse scenes: paragraphs that are shorter or longer than
// MinParagraph and MaxParagraph (one line for all), repeated ones, and a name that is not the card's. card may be nil.
func (p *Profile) Lint(card *Card) (warnings []string) {
	warn := func(line int, format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
	}
	if card != nil && p.Name != "" {
		if who, ok := card.Speaker(p.Name); !ok || who.Kind != Character {
			warn(1, "name: got %q, want %q as the card has it", p.Name, card.Name)
		}
	}
	seen, lengths := map[string]int{}, []int{}
	first := 0 // line of the first paragraph of another length
	for _, paragraph := range p.Paragraphs {
		if n := utf8.RuneCountInString(paragraph.Text); n < MinParagraph || n > MaxParagraph {
			if lengths = append(lengths, n); len(lengths) == 1 {
				first = paragraph.Line
			}
		}
		if before, ok := seen[paragraph.ID]; ok {
			warn(paragraph.Line, "paragraph: got the text again, want it once: it is on line %d too", before)
		} else {
			seen[paragraph.ID] = paragraph.Line
		}
	}
	switch n := len(lengths); {
	case n == 1:
		warn(first, "paragraph: got %d characters, want %d to %d", lengths[0], MinParagraph, MaxParagraph)
	case n > 1:
		warn(first, "paragraph, and %d more: got %d to %d characters, want %d to %d", n-1, slices.Min(lengths), slices.Max(lengths), MinParagraph, MaxParagraph)
	}
	return warnings
}
