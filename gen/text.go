package gen

import (
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// readTextScenes reads scenes as older generators asked for them; what the parser leaves out is not there.
func readTextScenes(c *persona.Card, answer, doneReason string) (scenes []journal.Scene) {
	for _, s := range parse.New(c).Scenes(&raw.Row{Completions: raw.Text(answer), DoneReason: doneReason}).Scenes {
		scenes = append(scenes, journal.Scene{Type: s.Type, Location: s.Location, Background: s.Background})
	}
	return scenes
}

// readText reads a dialogue as older generators asked for it. ok is false if the parser rejects it, or leaves turns
// out.
func readText(c *persona.Card, answer, doneReason string) (d dialogue, ok bool) {
	parsed := parse.New(c).Dialogue(&raw.Row{Completions: raw.Text(answer), DoneReason: doneReason})
	d.Background = parsed.Background
	for _, t := range parsed.Turns {
		d.Turns = append(d.Turns, turn{t.Role, t.Action, t.Content})
	}
	return d, parsed.Code == "" && len(parsed.Dropped) == 0
}
