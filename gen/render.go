package gen

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
)

// What a prompt tells of other answers: at most so many, each cut to so many code points.
const (
	maxKnown      = 8
	maxKnownRunes = 60
)

// phrases are the words around what differs between the jobs of a group. The first %s of an identity or protective
// dialogue is the character, the second the user, the third what it is about.
type phrases struct{ identity, protective, ordinal, asked, scenes string }

var wording = map[string]phrases{
	"korean": {
		identity:   "- 이 대화에는 %[2]s의 물음 \"%[3]s\" 또는 그와 비슷한 물음이 나오고, %[1]s의 대답에는 자기 이름이 들어갑니다.",
		protective: "- 이 대화에는 %[2]s의 뜻밖의 물음이 나옵니다: %[3]s. %[1]s의 세계에는 없는 것이므로 모른다고 공손히 대답합니다.",
		ordinal:    "- 같은 상황의 대화 %[2]d개 가운데 현재는 %[1]d번째 대화입니다. 다른 대화와 겹치지 않게 합니다.",
		asked:      "- 다른 대화에서 이미 나온 말: ",
		scenes:     "- 이미 있는 다음 장면과 겹치지 않게 합니다: ",
	},
	"english": {
		identity:   "- In this conversation %[2]s asks \"%[3]s\" or something like it, and %[1]s answers with the own name.",
		protective: "- In this conversation %[2]s asks about something unexpected: %[3]s. The world of %[1]s has no such thing, and %[1]s says so kindly.",
		ordinal:    "- This is conversation %[1]d of %[2]d in the same situation. Make it unlike the others.",
		asked:      "- Said in the others already: ",
		scenes:     "- Make them unlike these, which there are already: ",
	},
}

// noMarks takes marks of markdown out of what a model has written, before another one reads it.
var noMarks = strings.NewReplacer("*", "", "#", "", "`", "", "__", "", "---", "-", "\"", "'")

// clip makes a short piece of a text.
func clip(text string) string {
	text = line(noMarks.Replace(text))
	if runes := []rune(text); len(runes) > maxKnownRunes {
		return string(runes[:maxKnownRunes]) + "…"
	}
	return text
}

// render makes the prompt for jobs of a group, which is told of the last of what is known.
func (o *Options) render(g *group, jobs []*job, known []string) (string, error) {
	c := o.Card
	short := c.Name
	if runes := []rune(short); len(runes) > 4 {
		short = string(runes[:2])
	}
	words := wording[c.Language]
	told := ""
	if n := len(known); n > 0 {
		told = strings.Join(known[max(n-maxKnown, 0):], " / ")
	}
	values := map[string]string{
		"agent_name": c.Name, "agent_short_name": short, "agent_summary": g.text, "user_name": c.User.Name,
		"cast": prompt.Cast(castNames(c)), "persona": c.Persona,
		"answer_form": prompt.AnswerForm(o.Kind, c.Language, o.Format == JSON, c.Name, c.User.Name, c.Speak()),
	}
	if o.Kind == prompt.Scene {
		values["scene_count"], values["scene_types"] = strconv.Itoa(len(jobs)), strings.Join(o.typesFor(jobs), ", ")
		values["known_scenes"] = ""
		if told != "" {
			values["known_scenes"] = words.scenes + told
		}
		return o.Template.Render(values)
	}
	j := jobs[0]
	var variant []string
	switch {
	case o.Kind == prompt.Protective:
		values["topic"] = j.subject
	case j.kind == identityKind:
		variant = append(variant, fmt.Sprintf(words.identity, c.Name, c.User.Name, j.subject))
	case j.kind == protectiveKind:
		variant = append(variant, fmt.Sprintf(words.protective, c.Name, c.User.Name, j.subject))
	}
	if n := len(g.jobs); n > 1 {
		variant = append(variant, fmt.Sprintf(words.ordinal, j.ordinal, n))
	}
	if told != "" {
		variant = append(variant, words.asked+told)
	}
	values["dialogue_variant_instruction"] = strings.Join(variant, "\n")
	if g.scene != nil {
		values["type"], values["location"], values["background"] = g.scene.Type, g.scene.Location, g.scene.Background
	}
	return o.Template.Render(values)
}

// typesFor gives the types of scenes that are asked for, so that all of the card's come up.
func (o *Options) typesFor(jobs []*job) []string {
	types := o.Card.SceneTypes
	if len(types) == 0 {
		return nil
	}
	var out []string
	for _, j := range jobs {
		out = append(out, types[(j.ordinal-1)%len(types)])
	}
	return out
}

// request makes the request for a prompt.
func (o *Options) request(text string, n, numCtx, seed int) engine.Request {
	r := engine.Request{Messages: []engine.Message{{Role: "user", Content: text}}, Options: o.Sampling}
	r.Options.NumCtx, r.Options.Seed = numCtx, seed
	if o.Format == JSON {
		if o.Kind == prompt.Scene {
			r.Schema = sceneSchema(o.Card, n, o.MaxChars)
		} else {
			r.Schema = dialogueSchema(o.Card, o.MinTurns, o.MaxTurns, o.MaxChars)
		}
	}
	return r
}

// promptHash is the hash of the messages as sent.
func promptHash(r engine.Request) string {
	sum := sha256.Sum256([]byte(mustJSON(r.Messages)))
	return hex.EncodeToString(sum[:])
}

// longest renders the longest prompt that the run can send: every group, with as much told of others as can be.
func (o *Options) longest(p *plan) (string, int, error) {
	text, n := "", 0
	for _, g := range p.groups {
		filler := clip(strings.Repeat(g.text+" ", 1+maxKnownRunes/max(len([]rune(g.text)), 1)))
		known := make([]string, maxKnown)
		for i := range known {
			known[i] = filler
		}
		for _, j := range g.jobs[:1] {
			jobs := []*job{j}
			if o.Kind == prompt.Scene {
				jobs = g.jobs[:min(o.Batch, len(g.jobs))]
			}
			rendered, err := o.render(g, jobs, known)
			if err != nil {
				return "", 0, err
			}
			if len(rendered) > len(text) {
				text, n = rendered, len(jobs)
			}
		}
	}
	return text, n, nil
}
