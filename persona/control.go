package persona

import (
	"regexp"
	"strings"
)

// controlToken is how control tokens of chat models look: <|im_end|>, [|endofturn|], </s>, <start_of_turn>,
// [INST], <<SYS>>. A tokenizer that knows such a text makes it one token wherever it stands, so text from
// outside must not contain one.
var controlToken = regexp.MustCompile(`<[|｜][^\s<>]{0,64}?[|｜]>|\[\|[^\s\[\]]{0,64}?\|\]|</?s>|<(?:bos|eos|pad|unk|mask)>` +
	`|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?(?:think|tool_call|tool_response)>`)

// findControl gives the first control token in text, "" if there is none. more are further texts that the model
// takes for control tokens.
func findControl(text string, more []string) string {
	found := controlToken.FindString(text)
	for _, token := range more {
		if found == "" && token != "" && strings.Contains(text, token) {
			found = token
		}
	}
	return found
}

// Neutralize takes the effect out of control tokens in text that somebody typed: a space goes behind the first
// character of each, so that it is read as letters. Text without one is returned as it is. more are further
// texts that the model takes for control tokens.
func Neutralize(text string, more ...string) string {
	for {
		token := findControl(text, more)
		if len(token) < 2 { // a token of one character cannot be taken apart; no model has one
			return text
		}
		runes := []rune(token)
		text = strings.ReplaceAll(text, token, string(runes[0])+" "+string(runes[1:]))
	}
}

// ControlToken gives the first text in s that chat models take for a control token, "" if there is none.
func ControlToken(s string) string { return findControl(s, nil) }
