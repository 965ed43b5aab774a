package prompt

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed builtin/*.txt
var files embed.FS

// Builtin gives our template of a kind in "korean" or "english".
func Builtin(kind Kind, language string) (*Template, error) {
	name := string(kind) + "_" + language + ".txt"
	data, err := files.ReadFile("builtin/" + name)
	if err != nil {
		return nil, fmt.Errorf("%w: builtin %s: got no such template", ErrTemplate, name)
	}
	return Parse(string(data), "builtin "+name, kind)
}

// seedNames are the files of older generators: the character's own one and the one for all.
var seedNames = map[Kind][2]string{
	Scene:    {"prompt_scene_generation_%s_%s.txt", "prompt_agent_scene_%s.txt"},
	Dialogue: {"prompt_dialogue_generation_%s_%s.txt", "prompt_agent_dialogue_%s.txt"},
}

// Seed reads the character's template below root/data/seed_data/prompts. The one for all characters is taken in its
// place only if generic allows it; dialogues have only had the latter.
func Seed(root string, kind Kind, character, language string, generic bool) (*Template, error) {
	names, ok := seedNames[kind]
	if !ok {
		return nil, fmt.Errorf("%w: older generators have no template for %s", ErrTemplate, kind)
	}
	dir := filepath.Join(root, "data", "seed_data", "prompts")
	own := filepath.Join(dir, fmt.Sprintf(names[0], character, language))
	forAll := filepath.Join(dir, fmt.Sprintf(names[1], language))
	if _, err := os.Stat(own); err != nil && (generic || kind == Dialogue) {
		return Read(forAll, kind)
	}
	return Read(own, kind)
}

// Cast lists names for a prompt.
func Cast(names []string) string { return strings.Join(names, ", ") }

// form asks for the shape of an answer.
type form struct{ sceneJSON, sceneText, dialogueJSON, dialogueText string }

var forms = map[string]form{
	"korean": {
		sceneJSON: `다음 모양의 JSON 하나로만 답하세요: {"scenes": [{"type": "유형", "location": "장소", "background": "배경"}]}`,
		sceneText: "장면마다 다음 모양으로만 답하세요.\n장면 1:\n유형: 장면의 유형\n장소: 곳의 이름\n배경: 한 문단",
		dialogueJSON: `다음 모양의 JSON 하나로만 답하세요: {"background": "상황 한 문단", "turns": [{"role": "@user", "action": "@speak", "content": "하는 말"}, ` +
			`{"role": "@name", "action": "@speak", "content": "하는 말"}]}`,
		dialogueText: "다음 모양으로만 답하세요.\n배경:\n상황 한 문단\n\n@user (@speak)\n하는 말\n\n@name (@speak)\n하는 말",
	},
	"english": {
		sceneJSON: `Answer with one JSON object of this form only: {"scenes": [{"type": "its type", "location": "a place", "background": "the situation"}]}`,
		sceneText: "Write every scene in this form only.\nScene 1:\nType: its type\nLocation: a place\nBackground: one paragraph",
		dialogueJSON: `Answer with one JSON object of this form only: {"background": "the situation", "turns": [{"role": "@user", "action": "@speak", "content": "what is said"}, ` +
			`{"role": "@name", "action": "@speak", "content": "what is said"}]}`,
		dialogueText: "Write in this form only.\nBackground:\none paragraph\n\n@user (@speak)\nwhat is said\n\n@name (@speak)\nwhat is said",
	},
}

// AnswerForm tells the model how to write its answer, as JSON or as text. The example speaks with the names of the
// card, so that no others are learned from it.
func AnswerForm(kind Kind, language string, asJSON bool, name, user, speak string) string {
	f := forms[language]
	text := map[bool]map[bool]string{true: {true: f.sceneJSON, false: f.sceneText}, false: {true: f.dialogueJSON, false: f.dialogueText}}[kind == Scene][asJSON]
	return strings.NewReplacer("@user", user, "@name", name, "@speak", speak).Replace(text)
}
