package parse

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

const testCard = `version: 1
id: snow_white
name: 백설공주
aliases: [백설공스, 백설 공주]
user: {name: 사용자, aliases: [방문자]}
cast:
  - {name: 난쟁이, aliases: [난쟁이들, 일곱 난쟁이]}
  - {name: 왕비, aliases: [계모]}
  - {name: 작은 새}
persona: 당신은 백설공주입니다.
`

func parser(t testing.TB, card string) *Parser {
	t.Helper()
	c, err := persona.Parse([]byte(card), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return New(c)
}

// padding makes replies longer than the least length without a turn of its own.
const padding = "배경:\n부엌에 아침 햇살이 들고, 난로 위에서는 수프가 끓고 있다. 창밖에서는 새들이 지저귀고 있으며 식탁에는 작은 접시 일곱 개와 작은 잔 일곱 개가 나란히 놓여 있다. 바람이 불 때마다 커튼이 가볍게 흔들린다.\n\n"

// show is a dialogue as text: one line a turn, then what was dropped.
func show(d Dialogue) string {
	var b strings.Builder
	if d.Code != "" {
		fmt.Fprintf(&b, "!%s\n", d.Code)
	}
	for _, t := range d.Turns {
		fmt.Fprintf(&b, "%s/%s", t.Role, t.Action)
		for _, side := range []string{t.RoleRaw, t.ActionRaw, t.Direction} {
			if side != "" {
				fmt.Fprintf(&b, " [%s]", side)
			}
		}
		fmt.Fprintf(&b, ": %s\n", strings.ReplaceAll(t.Content, "\n", "|"))
	}
	for _, drop := range d.Dropped {
		fmt.Fprintf(&b, "-%s\n", drop.Code)
	}
	return b.String()
}

const u, w = "사용자 (말하기)\n아침에는 뭘 했어요?\n\n", "백설공주 (말하기)\n수프를 끓였어요."

const plainTurns = "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.\n"

// TestShapes has one reply for every shape of formats.md, section 6.
func TestShapes(t *testing.T) {
	p := parser(t, testCard)
	for name, c := range map[string]struct{ reply, want string }{
		"as asked for":                {u + w, plainTurns},
		"bold heads":                  {"**사용자 (말하기)**\n아침에는 뭘 했어요?\n\n**백설공주** (말하기)\n수프를 끓였어요.", plainTurns},
		"heading heads":               {"## 사용자 (말하기)\n아침에는 뭘 했어요?\n\n###### 백설공주\n수프를 끓였어요.", plainTurns},
		"one line":                    {"사용자 (말하기): 아침에는 뭘 했어요?\n백설공주 (말하기) 수프를 끓였어요.", plainTurns},
		"colons":                      {"사용자: 아침에는 뭘 했어요?\n**백설공주:** 수프를 끓였어요.", plainTurns},
		"SFT heads":                   {"사용자 말하기: 아침에는 뭘 했어요?\n백설공주 말하기: 수프를 끓였어요.", plainTurns},
		"three lines":                 {"사용자\n(말하기)\n아침에는 뭘 했어요?\n백설공주\n(말하기)\n수프를 끓였어요.", plainTurns},
		"brackets":                    {"[사용자 (말하기)]\n아침에는 뭘 했어요?\n【백설공주】\n수프를 끓였어요.", plainTurns},
		"brackets, one line":          {"[사용자] 아침에는 뭘 했어요?\n<백설공주> 수프를 끓였어요.", plainTurns},
		"full width":                  {"사용자（말하기）\n아침에는 뭘 했어요?\n백설공주（말하기）：수프를 끓였어요.", plainTurns},
		"turn numbers":                {"턴 1\n사용자 (말하기)\n아침에는 뭘 했어요?\n\n**대화 턴 2**\n\n턴 2: 백설공주 (말하기)\n수프를 끓였어요.", plainTurns},
		"meta":                        {"턴 수: 15개 이상\n대화 시작\n첫 번째 대화\n" + u + "추가 대화 예시:\n" + w, plainTurns},
		"lists":                       {"1. 사용자: 아침에는 뭘 했어요?\n2. 백설공주: 수프를 끓였어요.", plainTurns},
		"emoji":                       {"🙂 사용자 (말하기)\n아침에는 뭘 했어요?\n\n👑 **백설공주** (말하기)\n수프를 끓였어요.", plainTurns},
		"emoji behind":                {"사용자 🙂 (말하기)\n아침에는 뭘 했어요?\n\n**백설공주** 👑: 수프를 끓였어요.", plainTurns},
		"emoji behind the action":     {"사용자 (말하기) 🙂\n아침에는 뭘 했어요?\n\n백설공주 (말하기) ❤️: 수프를 끓였어요.", plainTurns},
		"emoji of the speech":         {u + "백설공주 (말하기) 👑 수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 👑 수프를 끓였어요.\n"},
		"emoji in prose":              {u + w + "\n백설공주 👑 이야기예요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|백설공주 👑 이야기예요.\n"},
		"polite":                      {"사용자님 (말하기)\n아침에는 뭘 했어요?\n백설공주 님: 수프를 끓였어요.", "사용자/말하기 [사용자님]: 아침에는 뭘 했어요?\n백설공주/말하기 [백설공주 님]: 수프를 끓였어요.\n"},
		"typo":                        {u + "백설공스 (말하기)\n수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기 [백설공스]: 수프를 끓였어요.\n"},
		"free action":                 {u + "백설공주 (미소 지으며)\n수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기 [미소 지으며]: 수프를 끓였어요.\n"},
		"thought":                     {u + w + "\n\n백설공주 (속으로 생각)\n맛있었지.\n(말하기)\n네.", plainTurns + "백설공주/생각 [속으로 생각]: 맛있었지.\n백설공주/말하기: 네.\n"},
		"thought alone":               {u + w + "\n(생각)\n맛있었지.", plainTurns + "백설공주/생각: 맛있었지.\n"},
		"direction":                   {u + "백설공주 (말하기)\n(미소 지으며) 수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기 [미소 지으며]: 수프를 끓였어요.\n"},
		"direction alone":             {u + "**백설공주:** (미소 지으며)\n수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기 [미소 지으며]: 수프를 끓였어요.\n"},
		"direction in asterisks":      {u + "백설공주: *미소 지으며* 수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기 [미소 지으며]: 수프를 끓였어요.\n"},
		"other name":                  {u + "백설공주 (Snow White) (말하기)\n수프를 끓였어요.", plainTurns},
		"narration in brackets":       {u + w + "\n\n(바람이 분다.)\n\n*새가 운다.*\n", plainTurns},
		"narration after a quotation": {"사용자 (말하기)\n\"아침에는 뭘 했어요?\"\n\n그가 물었다.\n\n백설공주 (말하기)\n“수프를 끓였어요.”\n\n그녀는 웃었다.", plainTurns},
		"more paragraphs":             {u + "백설공주 (말하기)\n수프를\n\n끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를|끓였어요.\n"},
		"closers":                     {u + w + "\n\n[대화 종료]\n\n백설공주: 네?", plainTurns},
		"remark":                      {u + w + "\n\n---\n이 대화는 상황에 맞추어 썼습니다.", plainTurns},
		"note":                        {u + w + "\n\nNote: 더 길게 쓸 수 있습니다.", plainTurns},
		"word count":                  {u + w + "\n(총 1,203자)", plainTurns},
		"rules between turns":         {u + "---\n\n" + w + "\n\n---\n", plainTurns},
		"unnamed":                     {u + w + "\n\n캐릭터1 (말하기)\n안녕.\n\n" + "사용자: 네.", plainTurns + "사용자/말하기: 네.\n-unnamed_speaker\n"},
		"unknown":                     {u + w + "\n\n늑대 (말하기)\n어흥.\n\n" + "사용자: 네.", plainTurns + "사용자/말하기: 네.\n-unknown_speaker\n"},
		"unknown, colons":             {"사용자: 아침에는 뭘 했어요?\n백설공주: 수프를 끓였어요.\n늑대: 어흥.\n사용자: 네.", plainTurns + "사용자/말하기: 네.\n-unknown_speaker\n"},
		"no unknown":                  {u + w + "\n예를 들면: 당근 수프예요.\n재료 (모두 셋이에요)", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|예를 들면: 당근 수프예요.|재료 (모두 셋이에요)\n"},
		"placeholders":                {u + w + "\n\n백설공주 (생각)\n내면의 생각\n\n사용자 (말하기)\n상세한 발언\n\n백설공주: 백설공주\n\n사용자:\n(*조용히*)", plainTurns + "-placeholder\n-placeholder\n-placeholder\n-placeholder\n"},
		"quote word":                  {"사용자 (말하기)\n따옴표 아침에는 뭘 했어요? 따옴표\n\n" + w, plainTurns},
		"particle":                    {u + w + "\n난쟁이들 (모두 일곱이에요)은 산에 갔어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|난쟁이들 (모두 일곱이에요)은 산에 갔어요.\n"},
		"fence, end tokens":           {"```\n" + u + w + "<|eot|>\n```\n<|im_end|>", plainTurns},
		"literal line ends":           {strings.ReplaceAll(u+w, "\n", `\n`), plainTurns},
		"thinking model":              {"<think>백설공주: 음</think>" + u + w, plainTurns},
		"refusal":                     {u + w + "\n\n백설공주: 저는 AI 언어 모델로서 답할 수 없습니다.", plainTurns + "-refusal\n"},
		"empty turn":                  {u + "백설공주 (말하기)\n\n" + w, plainTurns + "-empty_turn\n"},
		"second background":           {"예시 형식:\n배경:\n상세한 배경 설명\n\n사용자 (말하기)\n상세한 발언\n\n---\n\n**배경:** 부엌이다.\n\n" + u + w, plainTurns + "-placeholder\n"},
		"colon alone":                 {u + w + "\n:\n: 그래요", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|:|: 그래요\n"},
		"escaped colon":               {u + w + "\n왕비\\: 그 사람이에요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|왕비: 그 사람이에요.\n"},
		"spaces":                      {"사용자   (말하기)\n아침에는   뭘 \u00a0했어요?\n\n" + "백설 \u200b공주 (말하기)\n수프를 끓였어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기 [백설 공주]: 수프를 끓였어요.\n"},
		"narrator":                    {u + w + "\n\n해설: 밤이 왔다.\n\n사용자: 네.", plainTurns + "사용자/말하기: 네.\n"},
		"label again":                 {"\n배경: 밤이다.\n" + u + w, plainTurns},
		"turns in brackets":           {"[턴 1] 사용자 (말하기)\n아침에는 뭘 했어요?\n(턴 2) **백설공주**\n수프를 끓였어요.", plainTurns},
		"own thought":                 {u + w + "\n\n백설공주의 생각: 맛있었지.", plainTurns + "백설공주/생각: 맛있었지.\n"},
		"own thought in prose":        {u + w + "\n백설공주의 생각은 달라요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|백설공주의 생각은 달라요.\n"},
		"no word count":               {u + w + "\n약 3자루가 있어요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|약 3자루가 있어요.\n"},
		"no name, colons":             {"사용자: 아침에는 뭘 했어요?\n\n백설공주: 수프를 끓였어요.\n비밀: 설탕이에요.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.|비밀: 설탕이에요.\n"},
		"decomposed":                  {norm.NFD.String(u + w), plainTurns},
		"quotes around heads":         {"\"사용자 (말하기)\"\n아침에는 뭘 했어요?\n'백설공주(말하기)'\n수프를 끓였어요.", plainTurns},
		"quotation over paragraphs":   {u + "백설공주 (말하기): \"수프를\n\n끓였어요.\"\n그녀는 웃었다.", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를|끓였어요.\n"},
		"quotation goes on":           {u + "백설공주 (말하기)\n\"수프를\"\n\n그녀는 웃었다.\n\n\"끓였어요.\"", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를|끓였어요.\n"},
		"same speaker twice":          {u + w + "\n\n백설공주: 네.", plainTurns + "백설공주/말하기: 네.\n"},
		"only the user":               {u + u, "!no_character_turn\n사용자/말하기: 아침에는 뭘 했어요?\n사용자/말하기: 아침에는 뭘 했어요?\n"},
		"one turn":                    {w, "!too_few_turns\n백설공주/말하기: 수프를 끓였어요.\n"},
		"no turn":                     {"그들은 오래 이야기했다.", "!no_turns\n"},
	} {
		if got := show(p.Dialogue(&raw.Row{Completions: raw.Text(padding + c.reply)})); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
}

// TestCastList has a list of who takes part before the background, which nobody says.
func TestCastList(t *testing.T) {
	p := parser(t, testCard)
	for _, head := range []string{"# 백설공주: 숲속의 하루\n\n", "등장인물:\n- 백설공주\n- 사용자\n\n", "백설공주: 숲의 공주\n사용자: 손님\n\n"} {
		d := p.Dialogue(&raw.Row{Completions: raw.Text(head + padding + u + w)})
		d.Dropped = nil
		if show(d) != plainTurns || !strings.HasPrefix(d.Background, "부엌에") {
			t.Errorf("%q: got %q, %s", head, d.Background, show(d))
		}
	}
}

func TestBackgrounds(t *testing.T) {
	p := parser(t, testCard)
	scene := &raw.Scene{Background: "장면의  배경"}
	long := strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(padding), "배경:\n"), "\n", " ") + " "
	for name, c := range map[string]struct{ head, want string }{
		"label":          {"배경:\n" + long + "\n\n둘째 문단.\n\n", long + "둘째 문단."},
		"bold":           {"**배경:** " + long + "\n\n", strings.TrimSpace(long)},
		"heading":        {"## 배경\n\n" + long + "\n\n", strings.TrimSpace(long)},
		"bracket":        {"[배경] " + long + "\n\n", strings.TrimSpace(long)},
		"bare":           {"배경\n" + long + "\n", strings.TrimSpace(long)},
		"English":        {"**Background:**\n" + long + "\n", strings.TrimSpace(long)},
		"none":           {strings.Repeat("\n", 120), "장면의 배경"},
		"placeholder":    {"배경:\nDetailed background ...\n" + strings.Repeat(" ", 100), "장면의 배경"},
		"meta in it":     {"배경:\n- 유형: 일상\n- 장소: 부엌\n" + long + "\n", strings.TrimSpace(long)},
		"not a label":    {"배경:\n" + long + "\n배경 이야기가 있다.\n", long + "배경 이야기가 있다."},
		"colon after it": {"배경 설명: " + long + "\n**숲속**: 조용하다.\n\n", long + "숲속: 조용하다."},
	} {
		d := p.Dialogue(&raw.Row{Completions: raw.Text(c.head + u + w + strings.Repeat(" ", 100) + "."), Scene: scene})
		if d.Background != c.want || d.Code != "" || len(d.Turns) != 2 {
			t.Errorf("%s: got %q, %s", name, d.Background, show(d))
		}
	}
	d := p.Dialogue(&raw.Row{Completions: raw.Text("다음은 대화입니다:\n" + long + "\n\n" + u + w)})
	if d.Background != strings.TrimSpace(long) {
		t.Errorf("upstream, no label: got %q", d.Background)
	}
}

func TestRejects(t *testing.T) {
	p := parser(t, testCard)
	no := false
	for want, r := range map[string]raw.Row{
		CodeEmpty:       {Completions: " \n"},
		CodeShort:       {Completions: raw.Text(u + w)},
		CodeDegenerate:  {Completions: raw.Text("네, " + strings.Repeat("따", 31))},
		CodeCheckFailed: {Completions: raw.Text(padding + u + w), CheckResult: &no},
		CodeRefusal:     {Completions: "죄송합니다. 저는 AI 언어 모델로서 그 대화를 쓸 수 없습니다."},
		CodePromptEcho:  {Completions: raw.Text("예시 형식:\n\n" + u + w + strings.Repeat("\n그리고 그들은 이야기했다.", 10))},
	} {
		if d := p.Dialogue(&r); d.Code != want {
			t.Errorf("%s: got %q: %s", want, d.Code, show(d))
		}
	}
	for _, fine := range []string{strings.Repeat("ㅋ", 200), strings.Repeat("하", 200), strings.Repeat(".", 300), strings.Repeat("-", 300), "라라라라 노래해요"} {
		if Degenerate(fine) {
			t.Errorf("%q: got degenerate", fine)
		}
	}
	if !Degenerate(strings.Repeat("나는 숲이 좋아. ", 10)) {
		t.Error("a sentence ten times: got fine")
	}
}

func TestPromptEcho(t *testing.T) {
	p := parser(t, testCard)
	prompt := "예시 형식:\n배경:\n상세한 배경\n\n백설공주 (말하기)\n숲속에서 딸기를 땄어요!\n\n캐릭터2 (말하기)\n정말 멋진 딸기네요."
	d := p.Dialogue(&raw.Row{Prompt: prompt, Completions: raw.Text(padding + u + w + "\n\n백설공주 (말하기)\n숲속에서 딸기를 땄어요\n\n사용자: 정말 멋진 딸기네요.")})
	if got := show(d); got != plainTurns+"-prompt_echo\n-prompt_echo\n" {
		t.Errorf("got %s", got)
	}
}

func TestCutOff(t *testing.T) {
	p := parser(t, testCard)
	for name, c := range map[string]struct{ reply, want string }{
		"in a sentence":       {u + w + " 그리고 밥을", plainTurns},
		"no sentence":         {u + w + "\n\n사용자: 그리고 밥", plainTurns + "-truncated\n"},
		"after a sentence":    {u + w, plainTurns},
		"after a closer":      {u + w + "\n\n백설공주: 네\n\n(End of scene)", plainTurns + "백설공주/말하기: 네\n"},
		"in the head":         {u + w + "\n\n사용자 (말하", "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.\n"},
		"in an earlier turn?": {"사용자: 네\n" + w, "사용자/말하기: 네\n백설공주/말하기: 수프를 끓였어요.\n"},
	} {
		if got := show(p.Dialogue(&raw.Row{Completions: raw.Text(padding + c.reply), DoneReason: "length"})); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
}

func TestStructured(t *testing.T) {
	p := parser(t, testCard)
	turns := `[{"role": "방문자", "action": "(말하기)", "content": "아침에는 뭘 했어요?"}, {"role": "백설공주", "action": "말하기", "content": "\"수프를 끓였어요.\""}]`
	whole := `{"background": "부엌에 햇살이\n든다.", "turns": ` + turns + `}` + strings.Repeat(" ", 90)
	want := "사용자/말하기 [방문자]: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.\n"
	for name, c := range map[string]struct{ reply, want string }{
		"object": {whole, want}, "array": {turns, want}, "fence": {"네, 알겠습니다.\n```json\n" + whole + "\n```\n이상입니다.", want},
		"prose before":   {"다음은 대화입니다.\n" + whole, want},
		"dialogue key":   {strings.Replace(whole, `"turns"`, `"dialogue"`, 1), want},
		"objects":        {strings.TrimSuffix(strings.TrimPrefix(turns, "["), "]"), want},
		"cut at the end": {strings.TrimRight(whole, " }"), want},
		"cut in a turn":  {whole[:strings.LastIndex(whole, "였어요")] + "", "!too_few_turns\n사용자/말하기 [방문자]: 아침에는 뭘 했어요?\n-truncated\n"},
		"cut after a sentence": {strings.Replace(strings.TrimRight(whole, " "), `수프를 끓였어요.\""}]}`, `수프를 끓였어요. 그리고`, 1),
			want},
		"cut in a key": {strings.TrimRight(whole, " ]}") + `}, {"role": "사용자", "act`, want + "-truncated\n"},
		"unknown":      {strings.Replace(whole, "방문자", "늑대", 1), "!too_few_turns\n백설공주/말하기: 수프를 끓였어요.\n-unknown_speaker\n"},
		"head again":   {strings.Replace(whole, "아침에는", "사용자: 아침에는", 1), want},
	} {
		r := raw.Row{Completions: raw.Text(c.reply)}
		if got := show(p.Dialogue(&r)); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
	if d := p.Dialogue(&raw.Row{Completions: raw.Text(whole)}); d.Background != "부엌에 햇살이 든다." {
		t.Errorf("background: got %q", d.Background)
	}
}

// TestParsedItems reads arrays of older parsers with what these left behind.
func TestParsedItems(t *testing.T) {
	p := parser(t, testCard)
	var r raw.Row
	text := `{"background": "부엌에 햇살이 든다.", "dialogue": [{"role": "사용자", "action": "말하기", "content": "부엌에서 일상 상황에 대해 이 상황(이른 아침...) 이야기해줄래?"},
		{"role": "# 백설공주", "action": "말하기", "content": "**수프를** 끓였어요."}, {"role": "백설공주", "action": "(생각)", "content": "# 맛있겠다"},
		{"role": "사용자", "action": "말하기", "content": "네."}, {"role": "그날 밤 아주 긴 이야기", "action": "말하기", "content": "음"}], "location": "부엌", "source": "seed_dialogue_1"}`
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	want := "백설공주/말하기 [# 백설공주]: 수프를 끓였어요.\n백설공주/생각: 맛있겠다\n사용자/말하기: 네.\n-invented_turn\n-unknown_speaker\n"
	if got := strings.ReplaceAll(show(p.Dialogue(&r)), "백설공주/말하기:", "백설공주/말하기 [# 백설공주]:"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for text, want := range map[string]bool{
		"부엌에서 일상 상황에 대해 이 상황(이른 아침...) 이야기해줄래?": true, "일상 상황에 대해 이야기해줄래?": true, "이 상황(이른 아침...) 이야기해줄래?": true,
		"부엌에서 이야기해줄래?": true, "이야기해줄래?": false, "난쟁이들 이야기를 해줄래?": false, "그 상황에 대해 말해줄래?": false,
	} {
		if got := Invented(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestKeepUnknown(t *testing.T) {
	p := parser(t, testCard+"unknown_speakers: keep\n")
	want := "사용자/말하기: 아침에는 뭘 했어요?\n백설공주/말하기: 수프를 끓였어요.\n늑대/말하기 [으르렁거리며]: 어흥.\n-unnamed_speaker\n"
	if got := show(p.Dialogue(&raw.Row{Completions: raw.Text(padding + u + w + "\n\n늑대 (으르렁거리며)\n어흥.\n\n캐릭터2: 네")})); got != want {
		t.Errorf("got %s", got)
	}
}
