package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/persona"
)

const (
	seed      = 20251205
	context8k = 8192 // tokens that the example's base can hold
)

// teacher is an engine whose answers are put together from the example's texts. It keeps all that was asked.
type teacher struct {
	card      *persona.Card
	cardPath  string
	templates map[prompt.Kind]*prompt.Template
	chapters  []chapter
	phrases   phrases
	topics    []topic

	scenes []scene // answered since the round began
	pairs  []pair
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type pair struct {
	Messages []message `json:"messages"`
}

// scene is one of an answer; Profile is only for the file of parsed scenes.
type scene struct {
	Type       string `json:"type"`
	Location   string `json:"location"`
	Background string `json:"background"`
	Profile    string `json:"profile,omitempty"`
}

type turn struct {
	Role    string `json:"role"`
	Action  string `json:"action"`
	Content string `json:"content"`
}

// Name is the engine's name in messages.
func (t *teacher) Name() string { return "teacher" }

// Inspect says how much the example's base can hold.
func (t *teacher) Inspect(context.Context) (engine.Info, error) {
	return engine.Info{Context: context8k, Parallel: 1}, nil
}

// Alive is always true.
func (t *teacher) Alive(context.Context) error { return nil }

// Chat answers a prompt of package gen.
func (t *teacher) Chat(_ context.Context, r engine.Request) (engine.Reply, error) {
	if r.Options.NumPredict == 1 && r.Schema == nil {
		return engine.Reply{Content: "네", DoneReason: "stop"}, nil
	}
	q := &question{teacher: t, text: r.Messages[0].Content, rng: rand.New(rand.NewPCG(seed, uint64(len(t.pairs))))}
	_, paragraph, _ := strings.Cut(q.text, "맥락:\n")
	q.paragraph, _, _ = strings.Cut(paragraph, "\n")
	for i := range t.chapters {
		if strings.HasPrefix(q.paragraph, t.chapters[i].Paragraph) {
			q.chapter = &t.chapters[i]
		}
	}
	if q.chapter == nil {
		return engine.Reply{}, fmt.Errorf("teacher: got the paragraph %q, want one of data/scenes.jsonl", q.paragraph)
	}
	var answer any
	if m := sceneCount.FindStringSubmatch(q.text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return engine.Reply{}, err
		}
		answer = q.sceneAnswer(n)
	} else {
		answer = q.dialogueAnswer()
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return engine.Reply{}, err
	}
	t.pairs = append(t.pairs, pair{[]message{{"user", q.text}, {"assistant", string(text)}}})
	return engine.Reply{Content: string(text), DoneReason: "stop", PromptTokens: 1, Tokens: 1}, nil
}

// What the teacher reads from a prompt.
var (
	sceneCount    = regexp.MustCompile(`새로운 장면을 (\d+)개`)
	sceneTypes    = regexp.MustCompile(`차례대로 하나씩 (.+)입니다`)
	placeLine     = regexp.MustCompile(`(?m)^- 장소: (.+)$`)
	actLine       = regexp.MustCompile(`(?m)^- 상황: .*?백설공주가 (.+?고) 있어요\.`)
	identityLine  = regexp.MustCompile(`의 물음 "(.+?)" 또는`)
	protectedLine = regexp.MustCompile(`뜻밖의 물음이 나옵니다: (.+?)\. |(?m)^- 묻는 것: (.+)$`)
)

// question is a prompt with what is read from it.
type question struct {
	*teacher
	text      string
	paragraph string
	chapter   *chapter
	rng       *rand.Rand
}

func (q *question) pick(list []string) string { return list[q.rng.IntN(len(list))] }

// fresh picks what does not stand in the prompt yet, if there is such.
func (q *question) fresh(list []string) string {
	for range 20 {
		if s := q.pick(list); !strings.Contains(q.text, s) {
			return s
		}
	}
	return q.pick(list)
}

func (q *question) chance(share float64) bool { return q.rng.Float64() < share }

func (q *question) sceneAnswer(n int) any {
	types := strings.Split(sceneTypes.FindStringSubmatch(q.text)[1], ", ")
	used := map[string]bool{}
	var out []scene
	for i := range n {
		s := scene{Type: types[i%len(types)]}
		var act string
		for range 30 { // another place and another act than those of this answer and those that are known
			s.Location = q.pick(q.chapter.names)
			act = q.pick(q.chapter.Places[s.Location])
			if !used[act] && !strings.Contains(q.text, act) {
				break
			}
		}
		used[act] = true
		parts := []string{q.pick(q.phrases.Times) + "백설공주가 " + act + " 있어요.", q.pick(q.chapter.Events)}
		if q.chance(0.8) {
			parts = append(parts, q.pick(q.phrases.Types[s.Type]))
		}
		if q.chance(0.9) || len(parts) < 3 {
			parts = append(parts, q.pick(q.phrases.Feelings))
		}
		s.Background = strings.Join(parts, " ")
		out = append(out, s)
		t := s
		t.Profile = q.paragraph
		q.scenes = append(q.scenes, t)
	}
	return struct {
		Scenes []scene `json:"scenes"`
	}{out}
}

// find gives the first group of a pattern that is not empty.
func (q *question) find(pattern *regexp.Regexp) string {
	if m := pattern.FindStringSubmatch(q.text); m != nil {
		return m[1] + strings.Join(m[2:], "")
	}
	return ""
}

func (q *question) dialogueAnswer() any {
	place, act := q.find(placeLine), q.find(actLine)
	identity, protected := q.find(identityLine), q.find(protectedLine)
	if place == "" {
		place = q.pick(q.chapter.names)
		act = q.pick(q.chapter.Places[place])
	}
	d := &talk{question: q, plain: q.chance(0.35)}
	d.open(act, identity != "")
	body := 1 + q.rng.IntN(4)
	if identity == "" && protected == "" && q.chance(0.3) { // who she is may come up anywhere
		identity = q.pick(q.phrases.Questions)
	}
	special := q.rng.IntN(2)
	for i := range body {
		switch {
		case i == min(special, body-1) && identity != "":
			d.identity(identity)
		case i == min(special, body-1) && protected != "":
			d.protected(protected)
		case i > 0 && q.chance(0.25):
			d.react()
		default:
			d.topic()
		}
	}
	d.say(q.pick(q.phrases.Bye), q.pick(q.phrases.Farewell))
	return struct {
		Background string `json:"background"`
		Turns      []turn `json:"turns"`
	}{strings.ReplaceAll(q.pick(q.phrases.Meet), "{place}", place), d.turns}
}

// talk is a dialogue on its way.
type talk struct {
	*question
	plain bool // the visitor speaks plainly, as to a child
	turns []turn
	used  map[string]bool
}

func (d *talk) say(asked, answer string) {
	d.turns = append(d.turns, turn{d.card.User.Name, d.card.Speak(), asked}, turn{d.card.Name, d.card.Speak(), answer})
}

// open is the greeting. Half of the dialogues have the own name in it.
func (d *talk) open(act string, identity bool) {
	p, hello := &d.phrases, ""
	for range 20 {
		if hello = d.pick(p.Hello) + " " + d.pick(p.Doing); !strings.Contains(d.text, hello) {
			break
		}
	}
	answer := d.pick(p.Welcome)
	if !identity && d.chance(0.66) {
		answer += " " + d.pick(p.Named)
	}
	if act != "" {
		answer += " " + act + " 있었어요."
	}
	if d.chance(0.3) {
		answer += " " + d.pick(p.Invite)
	}
	d.say(hello, answer)
}

// general are beginnings of answers that fit anywhere in the tale.
var general = []string{"갓 구운 빵과", "저는 지금 참", "노래하며 바느질", "하얀색을", "저는 겨울을", "숲의 작은 새와", "모두가 서로를", "아침에는 꽃에", "낯선 할머니의", "저는 마음이 고운"}

func (d *talk) topic() {
	if d.used == nil {
		d.used = map[string]bool{}
	}
	var t *topic
	for range 30 {
		from := d.chapter.Talk
		if d.chance(0.3) {
			from = general
		}
		if t = d.teacher.topic(d.pick(from)); !d.used[t.answer] {
			break
		}
	}
	d.used[t.answer] = true
	asked := d.pick(t.questions)
	for range 10 {
		if polite := strings.Contains(asked, "요"); polite != d.plain {
			break
		}
		asked = d.pick(t.questions)
	}
	answer := t.answer
	if d.chance(0.15) && !strings.HasPrefix(answer, "네, ") {
		answer = d.pick(d.phrases.Before) + answer
	}
	if d.chance(0.2) {
		answer += d.pick(d.phrases.After)
	}
	d.say(asked, answer)
}

func (d *talk) react() {
	r := d.phrases.reactions[d.rng.IntN(len(d.phrases.reactions))]
	if d.used[r.says] {
		d.topic()
		return
	}
	if d.used == nil {
		d.used = map[string]bool{}
	}
	d.used[r.says] = true
	d.say(r.says, d.pick(r.replies))
}

func (d *talk) identity(asked string) {
	p := &d.phrases
	if d.chance(0.2) {
		asked = d.pick(p.Questions)
	}
	d.say(asked, d.pick(p.Who))
	if d.chance(0.5) {
		d.say(d.pick(p.WhoSays), d.pick(p.WhoReplies))
	}
}

func (d *talk) protected(noun string) {
	p := &d.phrases
	d.say(particles(d.pick(p.Ask), noun), particles(d.pick(p.Unknown), noun)+" "+d.pick(p.Instead))
	order := d.rng.Perm(len(p.AskAgain))
	for _, i := range order[:1+d.rng.IntN(2)] {
		answer := particles(d.pick(p.UnknownAgain), noun)
		if d.chance(0.5) {
			answer += " " + d.pick(p.Instead)
		}
		d.say(particles(p.AskAgain[i], noun), answer)
	}
}
