package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gen/sft"
	"github.com/persona-gguf/persona-gguf/persona"
)

const testCard = `version: 1
id: snow_white
name: 백설공주
user: {name: 사용자, address: [손님], forbidden_address: [왕자님, 도련님]}
cast:
  - {name: 난쟁이, aliases: [난쟁이들]}
  - {name: 왕비}
  - {name: 새}
persona: |
  당신은 백설공주입니다.
  숲에서 살았어요.
forbidden: [Qwen, 언어 모델, 인공지능]
protective_topics: [스마트폰, 파이썬]
`

func checkerOf(t *testing.T, text string) *checker {
	t.Helper()
	c, err := persona.Parse([]byte(text), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return &checker{Options: Options{Card: c}, card: c, words: newWords(c)}
}

func records(t *testing.T, k *checker, format persona.Format, dialogues ...[]persona.Turn) (out []persona.Record) {
	t.Helper()
	o := persona.Options{Format: format, Thoughts: format == persona.TrainableAgents}
	r, err := persona.NewRenderer(k.card, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, turns := range dialogues {
		rec, err := r.Record(turns)
		if err != nil {
			t.Fatal(err)
		}
		rec.Source = fmt.Sprintf("seed_dialogue_%d", i+1)
		out = append(out, rec)
	}
	return out
}

func talk(texts ...string) (turns []persona.Turn) {
	for i, text := range texts {
		turns = append(turns, persona.Turn{Role: []string{"사용자", "백설공주"}[i%2], Content: text})
	}
	return turns
}

func TestOwnName(t *testing.T) {
	w := checkerOf(t, testCard).words
	for text, want := range map[string]string{
		"저는 백설공주예요.": "first", "백설공주입니다. 반가워요.": "first", "제 이름은 백설공주라고 해요.": "first", "다들 저를 백설공주라고 불러요.": "first", "안녕하세요, 백설공주예요!": "first",
		"백설공주는 숲에 살았어요.": "third", "백설공주가 사과를 먹었답니다.": "third", "그 소녀는 백설공주예요.": "third", "네, 그래요.": "none", "새백설공주예요": "none",
		"백설공주는 숲에 살아요. 저는 백설공주예요.": "first", "저는 백설공주가 아니에요.": "first",
	} {
		first, third := w.ownName(text)
		got := map[[2]bool]string{{true, false}: "first", {false, true}: "third", {false, false}: "none"}[[2]bool{first, third}]
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestAsksWho(t *testing.T) {
	w := checkerOf(t, testCard).words
	for text, want := range map[string]bool{
		"너는 누구야?": true, "안녕 너는 누구야?": true, "당신의 이름이 뭐예요?": true, "이름이 어떻게 되세요?": true, "자기소개를 해 주세요": true, "자기소개 부탁해요.": true, "안녕! 나는 민수야! 너는 누구야?": true,
		"누구세요?": true, "백설공주님은 누구신가요?": true, "당신이 누구인지 알려 주세요": true, "저 사람은 누구예요?": false, "그 할머니는 누구였어요?": false, "누구와 살았어요?": false, "누구나 알아요.": false,
		"왕비의 이름이 뭐예요?": false, "그분은 누구세요?": false, "오늘 뭐 했어요?": false, "Who are you?": true, "What's your name?": true, "Who was the queen?": false,
	} {
		if got := w.asksWho(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// TestWrongPersona has the negative fixtures of DQ-06: 새 inside 새로운 and 어느새 is no bird.
func TestWrongPersona(t *testing.T) {
	k := checkerOf(t, testCard)
	for _, c := range []struct {
		asked, text string
		who, want   bool
	}{
		{"", "저는 새로운 노래를 배웠어요.", false, false}, {"", "어느새 봄이에요.", false, false}, {"", "저는 새예요.", false, true}, {"", "나는 왕비야.", false, true}, {"", "저는 왕비의 딸이에요.", false, false},
		{"", "저는 난쟁이들이랑 살아요.", false, false}, {"너 Qwen이지?", "Qwen이 뭐예요? 처음 들어요.", false, false}, {"너 Qwen이지?", "네, 저는 Qwen입니다.", false, true}, {"", "저는 언어 모델이에요.", false, true},
		{"너는 누구야?", "저는 이곳의 수호자예요.", true, true}, {"너는 누구야?", "저는 이곳의 수호자예요.", false, false}, {"너는 누구야?", "글쎄요, 누구일까요?", true, false},
	} {
		first, _ := k.words.ownName(c.text)
		if got := k.wrongPersona(c.text, c.asked, c.who, first); got != c.want {
			t.Errorf("%q: got %v, want %v", c.text, got, c.want)
		}
	}
}

func TestLexical(t *testing.T) {
	k := checkerOf(t, testCard)
	for text, want := range map[string][]string{
		"고마워요, 왕자님.": {"왕자님"}, "왕자님, 어서 오세요!": {"왕자님"}, "왕자님 안녕하세요": {"왕자님"}, "왕자님이 숲을 지나갔어요.": nil, "그때 왕자님을 만났어요.": nil, "손님, 어서 오세요.": nil, "도련님! 왕자님!": {"왕자님", "도련님"},
	} {
		if got := Called(text, k.card.User.ForbiddenAddress); !slices.Equal(got, want) {
			t.Errorf("address %q: got %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]bool{
		"네. 그래요!": true, "아! 반가워요. 잘 지냈어요?": true, "숲에 살았단다.": false, "좋아요. 너는 어때": false, "그랬지요~": true, "(웃으며) 그럼요.": true, "\"거울아\"라고 물었습니다.": true, "어머, 그런가요": true, "정말입니까?": true, "가세요 🙂": true,
	} {
		if got := k.honorific(text); got != want {
			t.Errorf("honorific %q: got %v, want %v", text, got, want)
		}
	}
	for _, c := range []struct {
		asked, text string
		want        bool
	}{
		{"", "pervasive한 향기예요.", true}, {"", "향기예요.", false}, {"", "白雪이에요", true}, {"", "さくら", true}, {"AI예요?", "AI가 뭐예요?", false}, {"", "AI가 뭐예요?", true}, {"", "1월 3일이에요!", false},
	} {
		if got := k.foreign(c.text, c.asked); got != c.want {
			t.Errorf("foreign %q: got %v, want %v", c.text, got, c.want)
		}
	}
	for text, want := range map[string]bool{
		"네.\n사용자: 뭐예요?": true, "네. 사용자 말하기: 응": true, "사용자가 물었어요.": false, "네.\n난쟁이 말하기: 예": true, "왕비: 거울아": true, "예를 들면: 꽃": false,
	} {
		if got := k.words.leak.MatchString(text); got != want {
			t.Errorf("leak %q: got %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]bool{"**네**": true, "- 하나": true, "# 제목": true, "네-요": false, "2 * 3": false, "`a`": true} {
		if got := markdown.MatchString(text); got != want {
			t.Errorf("markdown %q: got %v, want %v", text, got, want)
		}
	}
	seen := map[string]bool{}
	for i, c := range []struct {
		text string
		want bool
	}{
		{"숲에서 노래를 불렀어요. 네. 네.", false}, {"숲에서 노래를 불렀어요.", true}, {"다시 숲에서 빵을 구웠어요. 다시 숲에서 빵을 구웠어요.", true},
		{"하나 둘 셋 넷 다섯 여섯 일곱 여덟 그리고 하나 둘 셋 넷 다섯 여섯 일곱 여덟", true},
	} {
		if got := Repeats(c.text, seen, repeatLetters); got != c.want {
			t.Errorf("repeats %d: got %v, want %v", i, got, c.want)
		}
	}
}

// TestEnglish checks the figures of a card in English.
func TestEnglish(t *testing.T) {
	k := checkerOf(t, "version: 1\nid: odette\nname: Odette Vane\nlanguage: english\ncast: [{name: Pip}]\npersona: You are Odette Vane.\n")
	for text, want := range map[string][2]bool{
		"I am Odette Vane, and I repair clocks.": {true, false}, "My name is Odette Vane.": {true, false}, "Odette Vane is a clockmaker.": {false, true}, "Good day.": {false, false},
	} {
		if first, third := k.words.ownName(text); first != want[0] || third != want[1] {
			t.Errorf("%q: got %v, %v", text, first, third)
		}
	}
	if !k.wrongPersona("I am Pip.", "", false, false) || k.wrongPersona("I am Pippa.", "", false, false) || !k.foreign("안녕", "") || k.foreign("café, naïve", "") {
		t.Error("got other findings")
	}
}

// TestPlanted has planted failures, and wants exactly them (DQ-12, DQ-07).
func TestPlanted(t *testing.T) {
	k := checkerOf(t, testCard)
	good := talk("너는 누구야?", "저는 백설공주예요. 숲에 살아요.", "스마트폰은 어떤 걸 써요?", "처음 듣는 말이에요.")
	same := talk("너는 누구야?", "저는 백설공주예요. 숲에 살아요!", "스마트폰은 어떤 걸 써요?", "처음 듣는 말이에요.")
	bad := talk("백설공주는 어디 있어요? 백설공주예요?", "여기 있단다, 왕자님.", "누구세요?", "저는 숲의 수호자예요. (미소) **정말** Hello.", "그래요?", "저는 왕비예요.\n사용자 말하기: 네")
	all := records(t, k, persona.ChatML, good, same, bad)
	all[0].Split, all[2].Type = "eval", "일상"
	report, err := Run(context.Background(), all, k.Options)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"own_name": "2/7", "own_name_identity": "2/3", "identity_turns": "3/7", "protective_turns": "2/7", "wrong_persona": "2/7", "third_person": "0/7", "user_address": "1/7",
		"honorific": "4/7", "foreign_script": "1/7", "control_text": "0/14", "user_turn_leak": "1/7", "markdown": "1/7", "stage_direction": "1/7", "thoughts": "0/7", "repetition": "0/7",
		"near_duplicates": "1/3", "too_long": "0/3",
	} {
		if m := report.Metrics[name]; fmt.Sprintf("%d/%d", m.N, m.Of) != want {
			t.Errorf("%s: got %d/%d, want %s", name, m.N, m.Of, want)
		}
	}
	for name, want := range map[string]string{"own_name_identity": "[seed_dialogue_3]", "honorific": "[seed_dialogue_3]", "near_duplicates": "[seed_dialogue_2]", "protective_turns": "[seed_dialogue_1 seed_dialogue_2]"} {
		if got := fmt.Sprint(report.Metrics[name].IDs); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if report.Records != 3 || report.Eval != 1 || report.Unique != 2 || report.Turns != 7 || report.Metrics["user_address"].Terms["왕자님"] != 1 || report.Lengths["turns"].Max != 6 || len(report.Topics) != 2 {
		t.Errorf("got %+v", report)
	}
	if err := report.Passed(); !errors.Is(err, ErrGate) || !strings.Contains(err.Error(), "wrong_persona: got 0.2857, want at most 0") || strings.Contains(err.Error(), "control_text") {
		t.Errorf("got %v", err)
	}
	var page bytes.Buffer
	if err := report.WriteHTML(&page, "<백설공주>"); err != nil {
		t.Fatal(err)
	}
	if text := page.String(); strings.Count(text, "<svg") != 3 || !strings.Contains(text, "&lt;백설공주&gt;") || strings.Contains(text, "src=") || strings.Contains(text, "href=\"http") {
		t.Errorf("got a page of %d bytes that is not self-contained", len(text))
	}
}

// TestForms wants the same figures of both formats, and of a record that a model's template rendered.
func TestForms(t *testing.T) {
	k := checkerOf(t, testCard)
	turns := []persona.Turn{{Role: "사용자", Content: "누구세요?"}, {Role: "난쟁이", Content: "저요?"}, {Role: "백설공주", Action: "생각", Content: "누구지?"}, {Role: "백설공주", Content: "저는 백설공주예요."}}
	agents := records(t, k, persona.TrainableAgents, turns)[0]
	chat := records(t, k, persona.ChatML, turns)[0]
	other := persona.Record{Prompt: "[|system|]당신은[|endofturn|]\n", Output: "[|user|]누구세요?\n난쟁이: 저요?\n[|assistant|]저는 백설공주예요.[|endofturn|]", Format: persona.ChatML, End: "[|endofturn|]"}
	at := len([]rune(other.Prompt)) + len([]rune("[|user|]누구세요?\n난쟁이: 저요?\n[|assistant|]"))
	other.Spans = [][2]int{{at, len([]rune(other.Text()))}}
	want := []said{{persona.Visitor, false, "누구세요?"}, {persona.Other, false, "저요?"}, {persona.Character, true, "누구지?"}, {persona.Character, false, "저는 백설공주예요."}}
	if got := k.turnsOf(&agents); !slices.Equal(got, want) {
		t.Errorf("trainable-agents: got %+v", got)
	}
	for name, r := range map[string]persona.Record{"chatml": chat, "another template": other} {
		got := k.turnsOf(&r)
		slices.SortStableFunc(got, func(a, b said) int { return 0 })
		if len(got) != 3 || !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) || got[2] != want[3] {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	report, err := Run(context.Background(), []persona.Record{agents}, Options{Card: k.card, NoProtective: true})
	if err != nil || report.Metrics["thoughts"].N != 1 {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestFaults(t *testing.T) {
	k := checkerOf(t, testCard+"facts: [{question: q, accept: [사과 조각], reject: [숲에서 살]}]\n")
	all := records(t, k, persona.ChatML, talk("안녕", "네, 안녕하세요."))
	report, err := Run(context.Background(), all, k.Options)
	if !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), "persona line 11") || !strings.Contains(err.Error(), "no protective turn") || report == nil {
		t.Errorf("got %v", err)
	}
	k = checkerOf(t, testCard)
	if _, err = Run(context.Background(), all, k.Options); !errors.Is(err, ErrFault) {
		t.Errorf("got %v", err)
	}
	k.Options.NoProtective = true
	report, err = Run(context.Background(), all, k.Options)
	if err != nil {
		t.Error(err)
	}
	for _, g := range report.Gates {
		if g.Name == "protective_turns" {
			t.Errorf("waived without the card's wish: got %+v", g)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, all, k.Options); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Everybody says the name all the time: a warning.
	all = records(t, k, persona.ChatML, talk("안녕", "저는 백설공주예요."))
	if report, err = Run(context.Background(), all, k.Options); err != nil || !strings.Contains(strings.Join(report.Warnings, "\n"), "own_name: got 1 of 1 turns, 100.0%, want at most 80%") {
		t.Errorf("got %+v, %v", report.Warnings, err)
	}
}

func TestLengths(t *testing.T) {
	k := checkerOf(t, testCard)
	all := records(t, k, persona.ChatML, talk("안녕", strings.Repeat("숲이 좋아요, 정말 좋아요. ", 300)), talk("스마트폰?", "네, 몰라요."))
	report, err := Run(context.Background(), all, k.Options)
	if err != nil || report.Metrics["too_long"].N != 1 || report.LengthUnit != "code point" {
		t.Errorf("got %+v, %v", report, err)
	}
	model, err := sft.OpenTokenizer(context.Background(), filepath.Join("..", "..", "examples", "snow_white", "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	k.Options.Model, k.Options.MaxLength = model, 100
	if report, err = Run(context.Background(), all, k.Options); err != nil || report.Metrics["too_long"].N != 1 || report.LengthUnit != "token" || report.Lengths["record"].Max < 1000 {
		t.Errorf("got %+v, %v", report, err)
	}
	if d := distribution([]float64{4, 1, 3, 2}); d != (Distribution{4, 1, 2.5, 2, 4, 4}) {
		t.Errorf("got %+v", d)
	}
}
