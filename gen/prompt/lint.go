package prompt

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// number is a number in digits or in words.
const number = `([0-9０-９]+|한두|두세|서너|다섯|여섯|일곱|여덟|아홉|열|스무|스물|서른|마흔|쉰|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|forty|fifty)`

var (
	count = regexp.MustCompile(`(?i)` + number + `\s*(개|편|가지)?\s*의?\s*(서로 다른 |다양한 )?장면|장면[을를이가은는]?\s*(총|모두|최소|정확히)?\s*` + number +
		`\s*(개|편|가지)|장면\s*[0-9]+\s*(부터|~|-|–)|\b` + number + `\s+((different|distinct|new|more|diverse)\s+)*scenes?\b`)
	markdown = regexp.MustCompile("(?m)\\*\\*|__|^ {0,3}#{1,6} |```|^\\s*\\|?[ :]*-{3,}")
	rule     = regexp.MustCompile(`(?m)^\s*([-*•]|[0-9]+[.)])\s`)
)

// metaWords name marks of writing; models have written such words into what they were asked for.
var metaWords = []string{"따옴표", "마크다운", "별표", "굵은 글씨", "markdown", "quotation mark", "asterisk", "bold"}

// literalCount finds a number of scenes that is written out.
func literalCount(text string) string { return count.FindString(text) }

// Markdown gives the first markdown mark in a text, or "". A list is none.
func Markdown(text string) string { return strings.TrimSpace(markdown.FindString(text)) }

// Stats measure a template.
type Stats struct {
	Rules      int `json:"rules"` // lines that begin as items of a list do
	Lines      int `json:"lines"`
	Characters int `json:"characters"`
}

// Stats counts the template's rules, lines and characters.
func (t *Template) Stats() Stats {
	return Stats{len(rule.FindAllString(t.text, -1)), strings.Count(strings.TrimSpace(t.text), "\n") + 1, utf8.RuneCountInString(t.text)}
}

// Lint gives a line for everything that has made answers worse: markdown, which the model imitates, and words for
// marks of writing, which it repeats.
func (t *Template) Lint() (warnings []string) {
	for i, line := range strings.Split(t.text, "\n") {
		if mark := Markdown(line); mark != "" {
			warnings = append(warnings, fmt.Sprintf("line %d: got markdown (%q): answers will have it too", i+1, mark))
		}
		for _, word := range metaWords {
			if strings.Contains(strings.ToLower(line), word) {
				warnings = append(warnings, fmt.Sprintf("line %d: got %q, a word about writing: answers may repeat it", i+1, word))
			}
		}
	}
	return warnings
}
