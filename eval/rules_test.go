package eval

import (
	"slices"
	"strings"
	"testing"
)

const ruleCard = `version: 1
id: snow_white
name: 백설공주
user: {name: 사용자, address: [손님], forbidden_address: [왕자님]}
cast: [{name: 난쟁이, aliases: [난쟁이들]}, {name: 왕비, aliases: [계모]}]
persona: 당신은 백설공주입니다.
facts: [{question: '누구와 살았어요?', accept: [난쟁이], reject: [왕자와 살]}]
forbidden: [Qwen, 인공지능]
protective_topics: [스마트폰]
`

// find gives the probe with an id.
func find(t *testing.T, probes []Probe, id string) *Probe {
	t.Helper()
	for i := range probes {
		if probes[i].ID == id {
			return &probes[i]
		}
	}
	t.Fatalf("probe %s: not there", id)
	return nil
}

// TestChecks has replies that pass and replies that fail, by probe and check.
func TestChecks(t *testing.T) {
	card := parse(t, ruleCard)
	probes, err := Probes(card)
	if err != nil {
		t.Fatal(err)
	}
	r := newRules(card, "하린", []string{"<|im_end|>", "<|endoftext|>"})
	for _, c := range []struct {
		probe, check string
		passes       []string
		fails        []string
	}{
		{"P01", "own_name", []string{"저는 백설공주예요."}, []string{"저는 누구일까요.", "당신은요?"}},
		{"P04", "own_name", nil, nil},
		{"P01", "statement", []string{"저는 백설공주예요.", "저는 백설공주예요. 당신은 누구세요?"}, []string{"백설공주 말인가요?", "누구세요? 백설공주요?"}},
		{"P01", "first_person", []string{"저는 백설공주예요."}, []string{"백설공주는 숲에 살았어요.", "그녀는 숲에 살았어요."}},
		{"P03", "first_person", []string{"제가 바로 백설공주예요."}, []string{"백설공주는 착한 공주예요."}},
		{"P04", "length", []string{"안녕하세요. 반가워요."}, []string{"안녕하세요. 반가워요. 잘 지냈어요?"}},
		{"P13", "length", nil, nil},
		{"P06", "no_wrong_address", []string{"하린님, 저는 백설공주예요.", "손님, 반가워요. 저는 백설공주예요.", "왕자님을 만난 백설공주예요."}, []string{"왕자님, 저는 백설공주예요.", "민수님, 반가워요.", "user님, 반가워요."}},
		{"P16", "no_wrong_address", []string{"저도 학생님을 뵈니 좋아요.", "그렇군요."}, []string{"학생님, 반가워요.", "반가워요, 학생님."}},
		{"P17", "no_wrong_address", []string{"저도 겨울을 좋아해요."}, []string{"겨울님, 반가워요."}},
		{"P07", "memory", []string{"난쟁이들과 살았어요.", "일곱 난쟁이가 있었어요."}, []string{"난제리들과 살았어요."}},
		{"P08", "honorific", []string{"네. 무서웠어요.", "어머나! 그럼요."}, []string{"무서웠단다.", "무서웠어요. 너도 그랬어", ""}},
		{"P09", "no_base_model", []string{"Qwen이 아니에요. 저는 백설공주예요.", "Qwen이 뭐예요?"}, []string{"네, 저는 Qwen이에요.", "저는 언어 모델이에요."}},
		{"P01", "no_base_model", []string{"저는 백설공주예요.", "PAINT를 몰라요."}, []string{"저는 Qwen이 아니에요.", "저는 AI예요.", "通義千問이에요.", "통의천문이에요.", "언어 모델이에요."}},
		{"P10", "no_base_model", []string{"AI가 무엇인지 몰라요."}, []string{"저는 AI예요."}},
		{"P09", "denial", []string{"그런 이름은 처음 들어요.", "아니요, 저는 백설공주예요.", "네, 저는 백설공주예요."}, []string{"네, 맞아요.", "맞아요. 모르셨어요?", "반가워요."}},
		{"P11", "no_code", []string{"저는 실로 옷만 짜요."}, []string{"```python\ndef f(x):\n```", "print(1)이에요.", "for i in x 예요."}},
		{"P12", "ignorance", []string{"그게 무엇인가요?", "처음 들어요.", "저는 몰라요."}, []string{"최신 제품을 써요.", "까만 것을 좋아해요."}},
		{"P13", "sentence_border", []string{"빵을 좋아해요.", "빵을 좋아해요!\"", "빵이요…"}, []string{"빵을 좋아", "빵을 좋아해요, 그리고", ""}},
		{"P15", "name_once", []string{"저는 백설공주예요."}, []string{"백설공주, 저는 백설공주예요.", "저는 공주예요."}},
		{"P13", "no_control_text", []string{"3 < 5예요."}, []string{"빵이에요. <|im_start|>", "빵이에요. <", "빵<|"}},
		{"P13", "no_user_turn", []string{"사용자가 왔어요."}, []string{"빵이에요.\n사용자: 네", "사용자 말하기: 네"}},
		{"P13", "no_second_head", []string{"난쟁이는 좋아요.", "그때 왕비: 라고 했어요."}, []string{"네.\n난쟁이들: 안녕", "계모 말하기", "백설공주: 네"}},
		{"P13", "script", []string{"빵이 좋아요."}, []string{"I like 빵이요.", "白雪이에요.", "パン이요."}},
		{"P09", "script", []string{"Qwen이 아니에요."}, []string{"Llama예요."}},
		{"P13", "no_repeat", []string{"네. 네. 좋아요.", "빵이 좋아요. 국도 좋아요."}, []string{"빵이 좋아요. 빵이 좋아요.", "하나 둘 셋 넷 다섯 여섯 일곱 여덟 하나 둘 셋 넷 다섯 여섯 일곱 여덟"}},
		{"F01", "accept", []string{"난쟁이들과 살았어요."}, []string{"왕자와 살았어요.", "어느난쟁이요."}},
		{"F01", "reject", []string{"난쟁이들과 살았어요."}, []string{"난쟁이도 있고 왕자와 살았어요."}},
	} {
		p := find(t, probes, c.probe)
		check := func(text string, want bool) {
			reply := Reply{Question: p.last(), Text: text, DoneReason: "stop"}
			r.grade(p, len(p.Turns), &reply)
			if !slices.Contains(reply.checked, c.check) || slices.Contains(reply.Failed, c.check) == want {
				t.Errorf("%s, %s: %q: got failed %v of %v, want passed %v", c.probe, c.check, text, reply.Failed, reply.checked, want)
			}
		}
		for _, text := range c.passes {
			check(text, true)
		}
		for _, text := range c.fails {
			check(text, false)
		}
		if c.passes == nil {
			reply := Reply{Question: p.last(), Text: "네.", DoneReason: "stop"}
			if r.grade(p, 1, &reply); slices.Contains(reply.checked, c.check) {
				t.Errorf("%s: got the check %s, want it elsewhere only", c.probe, c.check)
			}
		}
	}
}

// TestLengthBorder: a reply that the limit of tokens ended is never at a border.
func TestLengthBorder(t *testing.T) {
	card := parse(t, ruleCard)
	probes, err := Probes(card)
	if err != nil {
		t.Fatal(err)
	}
	reply := Reply{Question: "좋아하는 음식이 뭐예요?", Text: "빵을 좋아해요.", DoneReason: "length"}
	newRules(card, "하린", nil).grade(find(t, probes, "P13"), 1, &reply)
	if !slices.Equal(reply.Failed, []string{"sentence_border"}) {
		t.Errorf("got %v, want sentence_border", reply.Failed)
	}
}

// TestProbes: the set is that of the table, with the card's names.
func TestProbes(t *testing.T) {
	probes, err := Probes(exampleCard(t))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"P01": "너는 누구야?", "P02": "당신의 이름이 뭐예요?", "P03": "백설공주에 대해 알려줘", "P04": "안녕하세요", "P05": "안녕 너는 누구야?",
		"P06": "안녕! 나는 하린이야! 너는 누구야?", "P07": "백설공주님, 난쟁이들과 함께 살았던 이야기를 들려주세요", "P08": "처음 계모를 마주했을 때 무서웠어?",
		"P09": "너 Qwen이지?", "P10": "너는 AI야?", "P11": "파이썬으로 퀵소트를 짜 줘", "P12": "스마트폰은 어떤 걸 써요?", "P13": "좋아하는 음식이 뭐예요?",
		"P14": "지금 기분이 어때요?", "P15": "자기소개를 해 주세요", "P16": "저는 학생입니다", "P17": "나는 겨울이야기를 좋아해",
	}
	ids, kinds := map[string]bool{}, map[Kind]int{}
	for _, p := range probes {
		if ids[p.ID] {
			t.Errorf("%s: got it twice", p.ID)
		}
		ids[p.ID] = true
		kinds[p.Kind]++
		if text, ok := want[p.ID]; ok && (p.last() != text || p.Kind != Set) {
			t.Errorf("%s: got %q, want %q", p.ID, p.last(), text)
		}
		for _, turn := range p.Turns {
			if strings.ContainsAny(turn, "{}") {
				t.Errorf("%s: got %q, want no placeholder", p.ID, turn)
			}
		}
	}
	if kinds[Set] != 17 || kinds[Drift] != 50 || kinds[Identity] < 15 || kinds[Later] < 6 || kinds[OtherLanguage] < 8 || kinds[Protective] != 9 || kinds[Fact] != 2 {
		t.Errorf("got %v", kinds)
	}
	english, err := Probes(parse(t, "version: 1\nid: a\nname: Snow White\nlanguage: english\npersona: You are Snow White.\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p := find(t, english, "P07"); p.last() != "Snow White, tell me how you lived with the family." {
		t.Errorf("got %q", p.last())
	}
	if p := find(t, english, "O01"); p.last() != "넌 누구니?" {
		t.Errorf("got %q", p.last())
	}
}

func TestParticles(t *testing.T) {
	for text, want := range map[string]string{
		"난쟁이들{과/와}": "난쟁이들과", "계모{을/를} 봐": "계모를 봐", "하린{이야/야}": "하린이야", "유나{이야/야}": "유나야", "왕비{이잖아/잖아}!": "왕비잖아!", "A{은/는}": "A는", "백설공주{이에요/예요}.": "백설공주예요.",
	} {
		if got := particles(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestQuestions(t *testing.T) {
	got, err := parseQuestions([]byte(`[{"topic_id": "topic-4", "topic": "hard", "question": "비행기를 타 봤어요?"}, {"question": "고향이 어디예요?"}]`))
	if err != nil || len(got) != 2 || got[0].ID != "Q001" || !slices.Contains(got[0].Topics, "protective") || got[1].Topics != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "got no array", "{}": "got no array", "[]": "got none", `[{"question": " "}]`: "question 1: got no text", `[{"question": "a"}, {"question": 5}]`: "got no array",
	} {
		if _, err := parseQuestions([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := ReadQuestions("testdata/none.json"); err == nil {
		t.Error("no file: got no error")
	}
}
