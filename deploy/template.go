package deploy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/persona"
)

// PassThrough is the template for clients that send a finished prompt.
const PassThrough = "{{ .Prompt }}"

// Template gives the Go template, as Ollama executes it, that renders messages to the renderer's text: with the
// same swaps in what users, tools and the model itself have said, so that no client has to do them. user is the
// name of the user, own that of the character; ChatML has no use for them.
func Template(r *persona.Renderer, user, own string) (string, error) {
	text, err := guardTemplate("text", r.TurnSwaps())
	if err != nil {
		return "", err
	}
	system, err := guardTemplate("system", r.SystemSwaps())
	if err != nil {
		return "", err
	}
	fill := strings.NewReplacer("END", literal(r.End()), "USER", literal(r.TurnHead(user)+" "), "OWN", literal(r.TurnHead(own)+" "), "CUE", literal("\n"+r.TurnHead(own)))
	body := chatMLTemplate
	if r.Format() == persona.TrainableAgents {
		body = fill.Replace(agentsTemplate)
	} else {
		body = strings.ReplaceAll(body, "<|im_end|>", r.End())
	}
	return text + system + body, nil
}

// literal is an action that prints s.
func literal(s string) string { return "{{ " + strconv.Quote(s) + " }}" }

// chatMLTemplate puts the first system message in front, whatever stands before it (Ollama puts a Modelfile's
// MESSAGE examples before a client's system message), and tools behind its text, in Qwen's form. The JSON of tools
// and of arguments has < as \u003c, so it needs no guard.
const chatMLTemplate = `{{- $at := -1 }}{{- $system := "" }}
{{- range $i, $m := .Messages }}{{ if and (eq .Role "system") (eq $at -1) }}{{ $at = $i }}{{ $system = .Content }}{{ end }}{{ end }}
{{- if or $system .Tools }}<|im_start|>system
{{ template "system" $system }}
{{- if .Tools }}{{ if $system }}{{ "\n\n" }}{{ end }}# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{{- range .Tools }}
{{ json . }}
{{- end }}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>{{ end }}<|im_end|>
{{ end }}
{{- $before := "" }}
{{- range $i, $m := .Messages }}
{{- $rest := slice $.Messages $i }}{{ $last := eq (len $rest) 1 }}
{{- if eq $i $at }}
{{- else if eq .Role "tool" }}{{ if ne $before "tool" }}<|im_start|>user{{ end }}
<tool_response>
{{ template "text" .Content }}
</tool_response>
{{- $next := "" }}{{ if not $last }}{{ $next = (index $rest 1).Role }}{{ end }}
{{- if ne $next "tool" }}<|im_end|>
{{ end }}
{{- else if eq .Role "assistant" }}<|im_start|>assistant
{{ template "text" .Content }}
{{- if .ToolCalls }}{{ if .Content }}{{ "\n" }}{{ end }}{{ range $j, $c := .ToolCalls }}{{ if $j }}{{ "\n" }}{{ end }}<tool_call>
{"name": "{{ template "text" .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}{{ end }}
{{- if not $last }}<|im_end|>
{{ end }}
{{- else }}<|im_start|>{{ if eq .Role "system" }}system{{ else }}user{{ end }}
{{ template "text" .Content }}<|im_end|>
{{ end }}
{{- $before = .Role }}
{{- if and $last (ne .Role "assistant") }}<|im_start|>assistant
{{ end }}
{{- end }}`

// agentsTemplate has no place for tools. An answer keeps the space that follows the colon only once.
const agentsTemplate = `{{- if .System }}{{ template "system" .System }}{{ "\n\n" }}{{ end }}
{{- $first := true }}
{{- range $i, $m := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" "assistant" }}
{{- if not $first }}{{ "\n" }}{{ end }}{{ $first = false }}
{{- if eq .Role "user" }}USER{{ template "text" .Content }}END
{{- else }}OWN{{ if eq (printf "%.1s" .Content) " " }}{{ template "text" (slice .Content 1) }}{{ else }}{{ template "text" .Content }}{{ end }}{{ if not $last }}END{{ end }}
{{- end }}
{{- end }}
{{- if and $last (ne .Role "assistant") }}CUE{{ end }}
{{- end }}`

// guardTemplate defines the template name, which prints its argument with the swaps applied: the loop of the
// renderer's pass over the text, in the few words that Go's templates have. What js would leave as it is holds
// none of the usual begins (<, \r, \n), so most texts need no loop.
func guardTemplate(name string, swaps []persona.Swap) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `{{- define %q }}{{ $c := . }}`, name)
	firsts, err := firstBytes(swaps)
	if err != nil {
		return "", err
	}
	shown := !strings.ContainsFunc(firsts, func(r rune) bool { return !strings.ContainsRune("<\r\n", r) })
	if shown {
		b.WriteString(`{{ if eq (js $c) $c }}{{ $c }}{{ else }}`)
	}
	b.WriteString("{{ $from := 0 }}{{ $skip := false }}{{ range $i := len $c }}{{ if $skip }}{{ $from = $i }}{{ $skip = false }}{{ end }}{{ $b := index $c $i }}")
	for n, first := range []byte(firsts) {
		if n > 0 {
			b.WriteString("{{ else }}")
		}
		fmt.Fprintf(&b, "{{ if eq $b %d }}{{ $t := slice $c $i }}", first)
		alternatives(&b, first, swaps)
	}
	b.WriteString(strings.Repeat("{{ end }}", len(firsts)) + "{{ end }}{{ if not $skip }}{{ slice $c $from }}{{ end }}")
	if shown {
		b.WriteString("{{ end }}")
	}
	b.WriteString("{{ end }}\n")
	return b.String(), nil
}

// firstBytes are the different first bytes of the swaps, in their order.
func firstBytes(swaps []persona.Swap) (firsts string, err error) {
	for _, s := range swaps {
		if s.Text[0] >= utf8.RuneSelf {
			return "", fmt.Errorf("template: control token %q: unsupported: got a first character outside ASCII", s.Text)
		}
		if !strings.Contains(firsts, s.Text[:1]) {
			firsts += s.Text[:1]
		}
	}
	return firsts, nil
}

// alternatives writes the tests of the rest of the text against the swaps that begin with first. Those with the
// same effect are one test for each length.
func alternatives(b *strings.Builder, first byte, swaps []persona.Swap) {
	tests, ends := 0, 0
	for i := 0; i < len(swaps); i++ {
		if swaps[i].Text[0] != first {
			continue
		}
		effect, byLength := swaps[i].First, map[int][]string{}
		for ; i < len(swaps) && swaps[i].Text[0] == first && swaps[i].First == effect; i++ {
			n := utf8.RuneCountInString(swaps[i].Text)
			byLength[n] = append(byLength[n], strconv.Quote(swaps[i].Text))
		}
		i--
		var lengths []int
		for n := range byLength {
			lengths = append(lengths, n)
		}
		slices.Sort(lengths)
		if tests > 0 {
			b.WriteString("{{ else }}")
		}
		b.WriteString("{{ if or")
		for _, n := range lengths {
			fmt.Fprintf(b, " (eq (printf \"%%.%ds\" $t) %s)", n, strings.Join(byLength[n], " "))
		}
		fmt.Fprintf(b, " }}{{ slice $c $from $i }}{{ %q }}{{ $skip = true }}", effect)
		tests++
		ends++
	}
	b.WriteString(strings.Repeat("{{ end }}", ends))
}
