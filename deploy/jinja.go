package deploy

import (
	"encoding/json"
	"strings"

	"github.com/persona-gguf/persona-gguf/persona"
)

// Jinja gives the renderer's text as a Jinja template, for servers and programs on llama.cpp: it is what Template
// is for Ollama, without tools.
func Jinja(r *persona.Renderer, user, own string) string {
	fill := strings.NewReplacer(
		"TEXT", replaceChain(r.TurnSwaps()), "SYSTEM", replaceChain(r.SystemSwaps()), "END", jinjaString(r.End()),
		"USER", jinjaString(r.TurnHead(user)+" "), "OWN", jinjaString(r.TurnHead(own)+" "), "CUE", jinjaString("\n"+r.TurnHead(own)),
	)
	if r.Format() == persona.TrainableAgents {
		return fill.Replace(agentsJinja)
	}
	return fill.Replace(chatMLJinja)
}

const chatMLJinja = `{%- for m in messages %}
{%- if m.role == "system" and loop.first %}
{%- if m.content %}{{- "<|im_start|>system\n" + m.contentSYSTEM + END + "\n" }}{%- endif %}
{%- else %}{{- "<|im_start|>" + m.role + "\n" + m.contentTEXT + END + "\n" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|im_start|>assistant\n" }}{%- endif %}`

const agentsJinja = `{%- set ns = namespace(first=true) %}
{%- for m in messages %}
{%- if m.role == "system" %}
{%- if m.content %}{{- m.contentSYSTEM + "\n\n" }}{%- endif %}
{%- else %}
{%- if not ns.first %}{{- "\n" }}{%- endif %}
{%- set ns.first = false %}
{%- if m.role == "assistant" %}{{- OWN + (m.content[1:] if m.content[:1] == " " else m.content)TEXT + END }}
{%- else %}{{- USER + m.contentTEXT + END }}
{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- CUE }}{%- endif %}`

// replaceChain applies swaps one after the other, which is the same as in one pass because what a swap leaves
// behind makes no other one's text.
func replaceChain(swaps []persona.Swap) string {
	var b strings.Builder
	for _, s := range swaps {
		_, rest := cutFirst(s.Text)
		b.WriteString(".replace(" + jinjaString(s.Text) + ", " + jinjaString(s.First+rest) + ")")
	}
	return b.String()
}

func cutFirst(s string) (first, rest string) {
	for i := range s {
		if i > 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// jinjaString is s as a string literal, which JSON's form is too.
func jinjaString(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded
	return strings.TrimSuffix(b.String(), "\n")
}
