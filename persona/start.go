package persona

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// StartOptions say for whom Start writes a card.
type StartOptions struct {
	Name     string // display name
	ID       string // slug; "" makes one of the name's letters, or "character"
	Language string // "korean" or "english"; "" for that of the name's letters
	Root     string // where data/seed_data of older scripts may be
}

// Start gives the text of a commented card that Parse accepts. A profile and a constant persona text of older
// scripts (data/seed_data below Root) are taken over. path is where the card will be: the profile is named from
// there.
func Start(o StartOptions, path string) (string, error) {
	o.Name = strings.TrimSpace(o.Name)
	korean := strings.ContainsFunc(o.Name, func(r rune) bool { return unicode.Is(unicode.Hangul, r) })
	if o.Language == "" {
		o.Language = "english"
		if korean {
			o.Language = "korean"
		}
	}
	if o.ID == "" {
		o.ID = slugOf(o.Name)
	}
	text, ok := starts[o.Language]
	if !ok {
		return "", fmt.Errorf("language: got %q, want korean or english", o.Language)
	}
	profile := SeedProfile(o.Root, o.ID, o.Language)
	profileLine := "# profile: profile.txt"
	if _, err := os.Stat(profile); err == nil {
		if relative, err := filepath.Rel(filepath.Dir(path), profile); err == nil {
			profile = relative
		}
		profileLine = "profile: " + scalar(profile)
	}
	body, err := seedPersona(o.Root)
	if err != nil {
		return "", err
	}
	if body == "" {
		body = fmt.Sprintf(text.persona, o.Name)
	}
	block := "|\n  " + strings.ReplaceAll(body, "\n", "\n  ")
	for _, form := range []string{block, fmt.Sprintf("%q", body)} { // a block cannot hold every text
		card := strings.NewReplacer("{ID}", scalar(o.ID), "{NAME}", scalar(o.Name), "{PROFILE}", profileLine, "{PERSONA}", form).Replace(text.card)
		c, err := Parse([]byte(card), path)
		if err == nil && c.Persona == body {
			return card, nil
		}
		if form != block && err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("persona text of the seed: want text that YAML keeps")
}

// slugOf makes a slug of the ASCII letters and digits of a name.
func slugOf(name string) string {
	slug := strings.Trim(strings.Map(func(r rune) rune {
		switch r = unicode.ToLower(r); {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r == ' ' || r == '_' || r == '-':
			return '_'
		}
		return -1
	}, name), "_")
	if slug == "" {
		return "character"
	}
	return slug
}

// scalar quotes a text for YAML where that is needed.
func scalar(s string) string {
	out, err := yaml.Marshal(s)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// seedPersona is the constant persona text of older scripts. One with variables in braces is a template for each
// scene, and no persona text.
func seedPersona(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "data", "seed_data", "prompts", "agent_meta_prompt_sft_korean.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read seed: %w", err)
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	for _, variable := range []string{"{character}", "{loc_time}", "{status}", "{agent_name}"} {
		if strings.Contains(text, variable) {
			return "", nil
		}
	}
	return strings.Trim(strings.NewReplacer("{{", "{", "}}", "}").Replace(text), "\n"), nil
}

// starts are the cards by language.
var starts = map[string]struct{ card, persona string }{
	"korean": {persona: "당신은 %s입니다. (어떤 인물인지, 어떻게 말하는지 두세 문장으로 적으세요.)", card: `# 캐릭터 카드: 데이터, 학습, 서빙이 모두 이 파일 하나를 봅니다. version, id, name, persona만 꼭 있어야 합니다.
version: 1
id: {ID}               # 파일 이름에 쓰는 이름: 영문 소문자, 숫자, _ (하이픈은 안 됨)
name: {NAME}                 # 화면에 보이는 이름. 어디서나 이 이름을 씁니다
# aliases: [다른 표기, 오타]     # 데이터에 나오는 다른 표기
language: korean                # korean | english
user:
  name: 사용자                  # 말을 거는 사람
  # aliases: [방문자]
  # address: [손님]             # 캐릭터가 사용자를 불러도 되는 말
  # forbidden_address: [왕자님] # 불러서는 안 되는 말
# cast:                         # 그 밖에 말할 수 있는 인물. 여기 없는 사람의 말은 빠집니다
#   - {name: 난쟁이, aliases: [난쟁이들, 일곱 난쟁이]}
unknown_speakers: drop          # drop | keep
# 인물 설명: 첫 줄은 이름, 빈 줄, 그다음 150~350자 문단들. 카드가 있는 폴더에서 본 경로
{PROFILE}
# 모든 대화 앞에 그대로 놓이는 글
persona: {PERSONA}
format: chatml                  # chatml | trainable-agents (기존 VTuber 클라이언트가 보내는 형식)
scene_types: [대화, 만남, 일상, 위기, 모험, 회상, 노래/춤, 자연 감상, 위로/격려, 발견]
scenes_per_paragraph: 5         # 문단마다 만들 장면
dialogues_per_scene: 1          # 장면마다 만들 대화
shares: {identity: 0.05, protective: 0.05} # 누구인지 묻는 대화, 알 수 없는 것을 묻는 대화의 몫
identity_questions: ["너는 누구야?", "당신의 이름이 뭐예요?"]
# facts:                        # 답에 있어야 할 말과 있어서는 안 될 말. 설명과 persona도 이것과 맞아야 합니다
#   - {question: "누구와 살았어요?", accept: [난쟁이], reject: [왕자와 살]}
forbidden: [Qwen, 인공지능, 언어 모델] # 어떤 답에도 나와서는 안 되는 말
honorific_endings: [요, 니다, 니까, 세요, 죠] # 높임말 문장의 끝. 반말 캐릭터면 []
protective_topics: [스마트폰, 파이썬, 자동차] # 캐릭터가 알 수 없는 것
sampling: {temperature: 0.7, top_p: 0.95, top_k: 40, num_predict: 300, repeat_penalty: 1.1, repeat_last_n: 64, num_ctx: 8192}
gates: {own_name_identity: 0.95, honorific: 0.95, wrong_persona: 0.0} # check --gate의 기준
`},
	"english": {persona: "You are %s. (Say in two or three sentences who that is and how it speaks.)", card: `# The persona card: data, training and serving all read this one file. Only version, id, name and persona must be given.
version: 1
id: {ID}             # name in file names: lower-case letters, digits and _ (no hyphen)
name: {NAME}               # display name, used everywhere
# aliases: [other spellings]  # as they occur in the data
language: english             # korean | english
user:
  name: User                  # who talks to the character
  # aliases: [Visitor]
  # address: [guest]          # what the character may call the user
  # forbidden_address: [prince] # what it may not
# cast:                       # who else may speak; turns by anybody else are left out
#   - {name: Dwarf, aliases: [Dwarfs]}
unknown_speakers: drop        # drop | keep
# the profile: the name, an empty line, paragraphs of 150 to 350 characters; a path from the card's folder
{PROFILE}
# the text that stands before every dialogue, as it is
persona: {PERSONA}
format: chatml                # chatml | trainable-agents
scene_types: [Chat, Debate, Discussion, Speech]
scenes_per_paragraph: 5
dialogues_per_scene: 1
shares: {identity: 0.05, protective: 0.05} # of the dialogues: who are you, and what the character cannot know
identity_questions: ["Who are you?", "What is your name?"]
# facts:                      # what an answer must and must not contain; profile and persona must agree with it
#   - {question: "Who did you live with?", accept: [dwarfs], reject: [lived with the prince]}
forbidden: [Qwen, language model] # what no reply may contain
protective_topics: [smartphone, Python, car] # what the character cannot know
sampling: {temperature: 0.7, top_p: 0.95, top_k: 40, num_predict: 300, repeat_penalty: 1.1, repeat_last_n: 64, num_ctx: 8192}
gates: {own_name_identity: 0.95, wrong_persona: 0.0} # the limits of check --gate
`},
}
