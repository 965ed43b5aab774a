// Package persona holds the persona card, the one renderer of prompts that training data, inference and the
// Modelfile share, and the records of supervised fine-tuning that the renderer makes.
package persona

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/strictyaml"
)

// maxCard is the size of the largest card that is read, in bytes.
const maxCard = 4 << 20

// Format is the form in which a dialogue becomes text.
type Format string

// The formats.
const (
	ChatML          Format = "chatml"           // <|im_start|>role … <|im_end|>, the character is the assistant
	TrainableAgents Format = "trainable-agents" // "name action: utterance<end>" lines, as Character-LLM has them
)

// Card says who the character is: the contract between data, training and serving. Paths are relative to the
// card's folder. Version, ID, Name and Persona must be given; Parse fills in the defaults of the others.
type Card struct {
	Version int      `yaml:"version"` // 1
	ID      string   `yaml:"id"`      // slug: lower-case letters, digits and _
	Name    string   `yaml:"name"`    // display name, used everywhere
	Aliases []string `yaml:"aliases"` // other spellings of it in the data
	// Language is "korean" (default) or "english"; it sets the words for actions and the defaults below.
	Language string `yaml:"language"`
	User     User   `yaml:"user"`
	Cast     []Role `yaml:"cast"` // the others who may speak
	// UnknownSpeakers says what becomes of a turn by somebody else: "drop" (default) or "keep".
	UnknownSpeakers string `yaml:"unknown_speakers"`
	Profile         string `yaml:"profile"` // file of the profile; none by default
	// Persona is the text that stands before every dialogue, byte for byte, without the line ends at its end,
	// which belong to YAML's block style and not to the text.
	Persona            string             `yaml:"persona"`
	Format             Format             `yaml:"format"`      // default chatml
	SceneTypes         []string           `yaml:"scene_types"` // default: eleven Korean types, or four English ones
	ScenesPerParagraph int                `yaml:"scenes_per_paragraph"`
	DialoguesPerScene  int                `yaml:"dialogues_per_scene"` // default 1; scenes default to 5
	Shares             Shares             `yaml:"shares"`
	IdentityQuestions  []string           `yaml:"identity_questions"`
	Facts              []Fact             `yaml:"facts"`
	Forbidden          []string           `yaml:"forbidden"`         // texts that no reply may contain
	HonorificEndings   []string           `yaml:"honorific_endings"` // default 요 니다 니까 세요 죠, English none
	ProtectiveTopics   []string           `yaml:"protective_topics"` // things that the character cannot know
	Sampling           Sampling           `yaml:"sampling"`
	Gates              map[string]float64 `yaml:"gates"` // least value by metric, most for wrong_persona and the like
	path               string
	lines              map[string]int
	people             speakers
}

// User is the person who talks to the character. The default name is 사용자, in English User.
type User struct {
	Name             string   `yaml:"name"`
	Aliases          []string `yaml:"aliases"`
	Address          []string `yaml:"address"`           // how the character may call the user
	ForbiddenAddress []string `yaml:"forbidden_address"` // how it may not
}

// Role is somebody else in the story.
type Role struct {
	Name    string   `yaml:"name"`
	Aliases []string `yaml:"aliases"`
}

// Shares are parts of the dialogues, 0 to 1; the default is 0.05 each.
type Shares struct {
	Identity   float64 `yaml:"identity"`
	Protective float64 `yaml:"protective"`
}

// Fact is a question with texts of which an answer must contain one (Accept) and none (Reject).
type Fact struct {
	Question string   `yaml:"question"`
	Accept   []string `yaml:"accept"`
	Reject   []string `yaml:"reject"`
}

// Sampling are the options of inference, named as Ollama names them. The defaults are those of the yaml comment
// in DefaultSampling.
type Sampling struct {
	Temperature   float64 `yaml:"temperature"`
	TopP          float64 `yaml:"top_p"`
	TopK          int     `yaml:"top_k"`
	NumPredict    int     `yaml:"num_predict"`
	RepeatPenalty float64 `yaml:"repeat_penalty"`
	RepeatLastN   int     `yaml:"repeat_last_n"`
	NumCtx        int     `yaml:"num_ctx"`
}

// DefaultSampling is what a card without a sampling key gets.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 0.7, TopP: 0.95, TopK: 40, NumPredict: 300, RepeatPenalty: 1.1, RepeatLastN: 64, NumCtx: 8192}
}

// defaults are what depends on the language.
var defaults = map[string]struct {
	user, speak, think            string
	sceneTypes, identity, endings []string
}{
	"korean": {
		user: "사용자", speak: "말하기", think: "생각",
		sceneTypes: []string{"대화", "만남", "일상", "위기", "모험", "회상", "노래/춤", "자연 감상", "위로/격려", "발견", "인터뷰"},
		identity:   []string{"너는 누구야?", "당신의 이름이 뭐예요?"},
		endings:    []string{"요", "니다", "니까", "세요", "죠"},
	},
	"english": {
		user: "User", speak: "speaking", think: "thinking",
		sceneTypes: []string{"Chat", "Debate", "Discussion", "Speech"},
		identity:   []string{"Who are you?", "What is your name?"},
	},
}

// Read reads and checks a card. An error names the file, the line, the key, and both values.
func Read(path string) (*Card, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read persona card: %w", err)
	}
	if info.Size() > maxCard {
		return nil, fmt.Errorf("read persona card %s: too large: got %d bytes, want at most %d", path, info.Size(), maxCard)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read persona card: %w", err)
	}
	return Parse(data, path)
}

// Parse checks the text of a card; path stands in errors, and its folder is what the paths in the card are
// relative to.
func Parse(data []byte, path string) (*Card, error) {
	c := &Card{
		path: path, lines: map[string]int{}, Language: "korean", UnknownSpeakers: "drop", Format: ChatML,
		ScenesPerParagraph: 5, DialoguesPerScene: 1, Shares: Shares{0.05, 0.05}, Sampling: DefaultSampling(),
	}
	if err := strictyaml.Decode(data, c, c.lines); err != nil {
		return nil, fmt.Errorf("persona card %s: %w", path, err)
	}
	c.Persona = strings.TrimRight(c.Persona, "\r\n")
	byLanguage, ok := defaults[c.Language]
	if !ok {
		return nil, c.errorAt("language", "got %q, want korean or english", c.Language)
	}
	if c.User.Name == "" {
		c.User.Name = byLanguage.user
	}
	for _, d := range []struct {
		key   string
		value *[]string
		want  []string
	}{
		{"scene_types", &c.SceneTypes, byLanguage.sceneTypes},
		{"identity_questions", &c.IdentityQuestions, byLanguage.identity},
		{"honorific_endings", &c.HonorificEndings, byLanguage.endings},
	} {
		if c.lines[d.key] == 0 {
			*d.value = d.want
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// ProfilePath is the file of the profile, "" if the card names none.
func (c *Card) ProfilePath() string {
	if c.Profile == "" || filepath.IsAbs(c.Profile) {
		return c.Profile
	}
	return filepath.Join(filepath.Dir(c.path), c.Profile)
}

// Speak and Think are the words for the two actions in the card's language.
func (c *Card) Speak() string { return defaults[c.Language].speak }

// Think is the word for thinking; see Speak.
func (c *Card) Think() string { return defaults[c.Language].think }

// errorAt is an error about a key, with the line where it stands, or where what holds it stands.
func (c *Card) errorAt(key, format string, args ...any) error {
	line, at := 0, key
	for line == 0 && at != "" {
		line = c.lines[at]
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	where := ""
	if line > 0 {
		where = fmt.Sprintf("line %d: ", line)
	}
	return fmt.Errorf("persona card %s: %s%s: %s", c.path, where, key, fmt.Sprintf(format, args...))
}

// WithGates gives a copy of the card with other gates in place of those of the same names.
func (c *Card) WithGates(gates map[string]float64) (*Card, error) {
	out := c.clone()
	out.Gates = map[string]float64{}
	maps.Copy(out.Gates, c.Gates)
	maps.Copy(out.Gates, gates)
	if err := out.check(); err != nil {
		return nil, err
	}
	return out, nil
}

// Nobody gives a copy of the card without a persona, for a model that is nobody yet.
func (c *Card) Nobody() *Card {
	out := c.clone()
	out.Persona = ""
	return out
}

// clone copies what the card's text says; lists are shared.
func (c *Card) clone() *Card {
	out := &Card{path: c.path, lines: c.lines}
	from, to := reflect.ValueOf(c).Elem(), reflect.ValueOf(out).Elem()
	for i := range from.NumField() {
		if from.Type().Field(i).IsExported() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return out
}
