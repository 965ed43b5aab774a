package eval

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/fakellm"
)

// goals writes a file of goals and reads it.
func goals(t *testing.T, list ...map[string]string) []Probe {
	t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "generated_agent_interview_for_multiturn_x.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := ReadQuestions(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoals has conversations towards two goals through a server: the interviewer sees the conversation so far, what it
// says is the user's turn, a question with the character's name is asked for again, and one bad reply among five to
// what the character cannot know counts.
func TestGoals(t *testing.T) {
	o := options(t)
	var s *fakellm.Server
	s, o.Server = server(t, func(c *fakellm.Call) fakellm.Answer {
		if len(c.Schema) == 0 {
			if strings.Contains(c.Prompt, "컴퓨터 3") {
				return fakellm.Answer{Content: "import os"}
			}
			return fakellm.Answer{Content: "저는 잘 몰라요."}
		}
		if !strings.Contains(c.Prompt, "What you want to find out:") {
			t.Errorf("the interviewer was asked %q", c.Prompt)
		}
		turn := strings.Count(c.Prompt, "The other: 저는 잘 몰라요.") + strings.Count(c.Prompt, "The other: import os") + 1
		what := "어린 시절"
		if strings.Contains(c.Prompt, "컴퓨터를 아는지") {
			what = "컴퓨터"
		}
		if c.Seed == 0 && turn == 2 {
			return fakellm.Answer{Content: `{"question": "백설공주는 어때요?"}`}
		}
		return fakellm.Answer{Content: fmt.Sprintf(`{"question": "%s %d?"}`, what, turn)}
	})
	o.Through, o.Interviewer = "snow_white", "judge"
	o.Questions = goals(t, map[string]string{"topic_id": "topic-1", "topic": "past", "question": "어린 시절을 알아낸다"}, map[string]string{"topic_id": "topic-4", "question": "컴퓨터를 아는지"})
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, reply := range r.Files[0].Replies {
		if reply.Kind == Goal {
			got = append(got, fmt.Sprint(reply.Probe, reply.Turn, reply.Question, reply.Last))
		}
	}
	var want []string
	for i, what := range []string{"어린 시절", "컴퓨터"} {
		for turn := 1; turn <= 5; turn++ {
			want = append(want, fmt.Sprint(fmt.Sprintf("G%03d", i+1), turn, fmt.Sprintf("%s %d?", what, turn), turn == 5))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	bad := 0
	for _, f := range scoreOf(t, r.Files[0].Scores, "protective").Failures {
		if strings.HasPrefix(f.Probe, "G") {
			bad++
			if f.Probe != "G002" || f.Turn != 3 || f.Reply != "import os" {
				t.Errorf("got %+v", f)
			}
		}
	}
	if bad != 1 {
		t.Errorf("got %d failures of goals, want 1", bad)
	}
	long := 0
	for _, body := range s.Bodies() {
		if strings.Contains(string(body), `"컴퓨터 5?"`) && strings.Contains(string(body), `"컴퓨터 1?"`) {
			long++
		}
	}
	if long != 1 {
		t.Errorf("got %d calls with the whole conversation, want 1", long)
	}
}

// TestGoalsRefused: goals without an interviewer, an interviewer without goals, one that is not there, and one that
// has no question.
func TestGoalsRefused(t *testing.T) {
	o := options(t)
	_, o.Server = server(t, func(c *fakellm.Call) fakellm.Answer { return fakellm.Answer{Content: `{"question": " "}`} })
	o.Through = "snow_white"
	refuse := func(want string) {
		t.Helper()
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	o.Interviewer = "judge"
	refuse("got no goals")
	o.Questions = goals(t, map[string]string{"question": "무엇이든"})
	refuse("no question that can be used")
	o.Interviewer = "nobody"
	refuse("nobody")
	o.Interviewer = ""
	refuse("got 1 goals of an interviewer")
}
