package persona

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// controlToken is how control tokens of chat models look: <|im_end|>, [|endofturn|], </s>, <start_of_turn>,
// [INST], <<SYS>>. A tokenizer that knows such a text makes it one token wherever it stands, so text from
// outside must not contain one.
var controlToken = regexp.MustCompile(`<[|｜][^\s<>]{0,64}?[|｜]>|\[\|[^\s\[\]]{0,64}?\|\]|</?s>|<(?:bos|eos|pad|unk|mask)>` +
	`|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?(?:think|tool_call|tool_response)>`)

// commonTokens begin like, or are, what controlToken finds.
var commonTokens = []string{
	"<|", "<｜", "[|", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>",
	"<start_of_turn>", "</start_of_turn>", "<end_of_turn>", "</end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>",
	"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
}

// findControl gives the first control token in text, "" if there is none. more are further texts that the model
// takes for control tokens.
func findControl(text string, more []string) string {
	found := ""
	if strings.ContainsAny(text, "<[") { // each begins with one of these, and most texts have none
		found = controlToken.FindString(text)
	}
	for _, token := range more {
		if found == "" && token != "" && strings.Contains(text, token) {
			found = token
		}
	}
	return found
}

// LooksLikeControl reports whether all of token has the form of a control token: what a vocabulary calls
// user-defined may be one (<think>) or not (a run of spaces).
func LooksLikeControl(token string) bool {
	return token != "" && controlToken.FindString(token) == token
}

// ControlToken gives the first text in s that chat models take for a control token, "" if there is none.
func ControlToken(s string) string { return findControl(s, nil) }

// Neutralize takes the effect out of control tokens in text that somebody typed: a space goes behind the first
// character of each, and of what begins like one, so that it is read as letters. Text without one is returned
// as it is. more are further texts that the model takes for control tokens.
func Neutralize(text string, more ...string) string {
	return swap(text, controlSwaps(append(slices.Clone(commonTokens), more...)))
}

// Swap is a text that must not stand in words from outside, and what takes the place of its first character
// wherever it does. One pass from left to right does it; templates of servers are made from the same list.
type Swap struct{ Text, First string }

// opener is the begin that all control tokens of its kind share, or the whole token.
func opener(token string) string {
	for _, begin := range []string{"<|", "<｜", "[|"} {
		if strings.HasPrefix(token, begin) {
			return begin
		}
	}
	return token
}

// manyTokens is the number of tokens that differ in a number only (<unused17>) and are guarded by their begin.
const manyTokens = 4

// controlSwaps makes swaps for tokens, one for all that begin alike.
func controlSwaps(tokens []string) (swaps []Swap) {
	numbered := map[string]int{}
	begin := func(token string) string {
		if at := strings.IndexAny(token, "0123456789"); at >= 0 && utf8.RuneCountInString(token[:at]) > 2 {
			return token[:at]
		}
		return token
	}
	for _, token := range tokens {
		numbered[begin(token)]++
	}
	var texts []string
	for _, token := range tokens {
		if b := begin(token); numbered[b] >= manyTokens {
			token = b
		}
		if token = opener(token); utf8.RuneCountInString(token) > 1 { // one character cannot be taken apart; no model has such a token
			texts = append(texts, token)
		}
	}
	slices.Sort(texts)
	for _, text := range slices.Compact(texts) {
		if n := len(swaps); n > 0 && strings.HasPrefix(text, swaps[n-1].Text) {
			continue // a shorter one covers it
		}
		first, _ := utf8.DecodeRuneInString(text)
		swaps = append(swaps, Swap{text, string(first) + " "})
	}
	return swaps
}

// swap applies swaps in one pass.
func swap(text string, swaps []Swap) string {
	var b strings.Builder
	from := 0
	for i := 0; i < len(text); {
		_, size := utf8.DecodeRuneInString(text[i:])
		if at := slices.IndexFunc(swaps, func(s Swap) bool { return strings.HasPrefix(text[i:], s.Text) }); at >= 0 {
			b.WriteString(text[from:i] + swaps[at].First)
			from = i + size
		}
		i += size
	}
	if from == 0 {
		return text
	}
	return b.String() + text[from:]
}

// findSwap gives the first text of swaps that stands in text, or "".
func findSwap(text string, swaps []Swap) string {
	for _, s := range swaps {
		if strings.Contains(text, s.Text) {
			return s.Text
		}
	}
	return ""
}

// turnSwaps are those for an utterance: line ends of other systems, and heads of turns where the format has them.
// All but a line end before a head begin with characters that no head begins with.
func (r *Renderer) turnSwaps() []Swap {
	swaps := append(slices.Clone(r.controlSwaps), Swap{"\r\n", ""}, Swap{"\r", " "})
	if r.options.Format != TrainableAgents {
		return swaps
	}
	for _, n := range r.card.names() {
		swaps = append(swaps, Swap{"\n" + n.name + ":", " "})
		for _, word := range []string{r.card.Speak(), r.card.Think()} {
			swaps = append(swaps, Swap{"\n" + n.name + " " + word + ":", " "}, Swap{"\n" + n.name + " (" + word + "):", " "})
		}
	}
	return swaps
}

// TurnSwaps is what Prompt does to every utterance, for templates that have to do the same.
func (r *Renderer) TurnSwaps() []Swap { return slices.Clone(r.swaps) }

// SystemSwaps is what has to be done to a system text that a client sends; the card's own has nothing of it.
func (r *Renderer) SystemSwaps() []Swap { return slices.Clone(r.controlSwaps) }
