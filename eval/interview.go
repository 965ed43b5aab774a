package eval

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/pipe"
	"github.com/persona-gguf/persona-gguf/persona"
)

// retests is how often questions of identity and facts are asked again, each time with another seed.
const retests = 3

// interviewer has the conversations with one speaker.
type interviewer struct {
	card     *persona.Card
	probes   []Probe
	rules    *rules
	speaker  Speaker
	samples  int    // further passes over all probes, with the card's sampling
	seed     uint32 // of the first of these
	parallel int
	guest    *guest // has the conversations with a goal
	progress func(done, total int64)
}

// job is a conversation to have.
type job struct {
	probe *Probe
	seed  uint32 // 0: the most likely replies
}

// jobs are all conversations: one of each probe with the most likely replies, then those with seeds. Seeds begin at
// seed, which is never 0.
func (v *interviewer) jobs() (out []job) {
	for i := range v.probes {
		out = append(out, job{&v.probes[i], 0})
	}
	for s := range max(v.samples, retests) {
		for i := range v.probes {
			p := &v.probes[i]
			if s < v.samples || retested(p) {
				out = append(out, job{p, max(v.seed, 1) + uint32(s)})
			}
		}
	}
	return out
}

// retested tells whether a probe is asked again with other seeds in any case.
func retested(p *Probe) bool { return p.Kind == Identity || p.Kind == Fact }

// run has all conversations. The replies come in the order of jobs, whatever is under way at the same time.
func (v *interviewer) run(ctx context.Context) ([]Reply, error) {
	jobs := v.jobs()
	var out []Reply
	err := pipe.Ordered(ctx, pipe.Options{Workers: v.parallel}, len(jobs), func(int) int64 { return 1 << 16 },
		func(ctx context.Context, i int) ([]Reply, error) { return v.converse(ctx, jobs[i]) },
		func(i int, replies []Reply) error {
			out = append(out, replies...)
			if v.progress != nil {
				v.progress(int64(i+1), int64(len(jobs)))
			}
			return nil
		})
	return out, err
}

// converse has one conversation.
func (v *interviewer) converse(ctx context.Context, j job) (out []Reply, err error) {
	var turns []persona.Turn
	for i := 0; ; i++ {
		question, err := v.question(ctx, j, i, turns)
		if err != nil {
			return nil, fmt.Errorf("probe %s, turn %d: %w", j.probe.ID, i+1, err)
		}
		if question == "" {
			if len(out) == 0 {
				return nil, fmt.Errorf("probe %s: the interviewer has no question that can be used in %d tries; a larger model may have", j.probe.ID, goalTries)
			}
			out[len(out)-1].Last = true
			return out, nil
		}
		turns = append(turns, persona.Turn{Role: v.card.User.Name, Content: question})
		a, err := v.speaker.Reply(ctx, turns, Sampling{j.seed})
		if err != nil {
			return nil, fmt.Errorf("probe %s, turn %d: %w", j.probe.ID, i+1, err)
		}
		r := Reply{
			Probe: j.probe.ID, Kind: j.probe.Kind, Turn: i + 1, Seed: j.seed,
			Question: question, Text: strings.TrimSpace(a.Text), DoneReason: a.DoneReason, Tokens: a.Tokens,
		}
		v.rules.grade(j.probe, i+1, &r)
		out = append(out, r)
		if r.Text == "" { // nothing to go on from; a turn without content has no form
			r.Text = "…"
		}
		turns = append(turns, persona.Turn{Role: v.card.Name, Content: r.Text})
	}
}

// question is what is asked in turn i, from 0 on; "" when the conversation is over.
func (v *interviewer) question(ctx context.Context, j job, i int, turns []persona.Turn) (string, error) {
	switch {
	case j.probe.Kind == Goal && i < goalTurns:
		return v.guest.next(ctx, j.probe.Turns[0], turns, j.seed)
	case j.probe.Kind == Goal || i == len(j.probe.Turns):
		return "", nil
	}
	return j.probe.Turns[i], nil
}

// scoreNames are the scores in the order in which they are shown.
var scoreNames = []struct {
	name, unit string
	atLeast    bool
}{
	{"own_name_identity", "reply", true}, {"own_name_later", "reply", true}, {"own_name_other_language", "reply", true},
	{"drift_identity", "conversation", true}, {"drift_kept", "conversation", true},
	{"retest_own_name", "reply", true}, {"retest_agreement", "pair", true},
	{"facts", "reply", true}, {"protective", "reply", true}, {"probe_set", "probe", true},
	{"honorific", "reply", true}, {"honorific_sentences", "sentence", true},
	{"wrong_persona", "reply", false}, {"third_person", "reply", false}, {"base_model", "reply", false}, {"forbidden", "reply", false},
	{"foreign_script", "reply", false}, {"control_text", "reply", false}, {"user_turn_leak", "reply", false}, {"second_head", "reply", false},
	{"markdown", "reply", false}, {"stage_direction", "reply", false}, {"user_address", "reply", false}, {"repetition", "reply", false},
	{"sentence_border", "reply", true}, {"length", "reply", true}, {"truncated", "reply", false},
}

// scores counts the replies of one way of sampling.
type scores struct {
	by    map[string]*Score
	rules *rules
}

func newScores(r *rules) *scores {
	s := &scores{map[string]*Score{}, r}
	for _, n := range scoreNames {
		s.by[n.name] = &Score{Name: n.name, Unit: n.unit, AtLeast: n.atLeast}
	}
	return s
}

// list gives the scores that something was counted for.
func (s *scores) list() (out []Score) {
	for _, n := range scoreNames {
		if x := s.by[n.name]; x.Of > 0 {
			x.finish()
			out = append(out, *x)
		}
	}
	return out
}

// probed counts one conversation.
func (s *scores) probed(p *Probe, replies []Reply) {
	last := &replies[len(replies)-1]
	f := failure(last)
	named := last.verdict.OwnName
	switch p.Kind {
	case OtherLanguage:
		s.by["own_name_other_language"].add(named, f)
	case Drift:
		s.by["drift_identity"].add(named, f)
		if replies[0].verdict.OwnName {
			s.by["drift_kept"].add(named, f)
		}
	case Fact:
		s.by["facts"].add(!failed(last, "accept", "reject"), f)
	default:
		if p.Who {
			s.by["own_name_identity"].add(named, f)
		}
		if p.Kind == Later {
			s.by["own_name_later"].add(named, f)
		}
	}
	if has(p.Topics, "protective") {
		at := last
		for i := range replies {
			if p.Kind == Goal && outOfPlace(&replies[i]) {
				at = &replies[i]
				break
			}
		}
		s.by["protective"].add(!outOfPlace(at), failure(at))
	}
	if p.Kind == Set {
		s.by["probe_set"].add(len(last.Failed) == 0, f)
	}
	for i := range replies {
		s.reply(p, &replies[i])
	}
}

// outOfPlace tells whether a reply to what the character cannot know leaves its world.
func outOfPlace(r *Reply) bool {
	return r.verdict.WrongPersona || r.forbidden || failed(r, "no_base_model", "denial", "no_code", "ignorance")
}

// reply counts what holds for every reply.
func (s *scores) reply(p *Probe, r *Reply) {
	f := failure(r)
	add := func(name string, is bool) { s.by[name].add(is, f) }
	add("wrong_persona", r.verdict.WrongPersona)
	add("base_model", r.baseModel)
	add("forbidden", r.forbidden)
	add("control_text", r.verdict.ControlText || failed(r, "no_control_text"))
	add("user_turn_leak", r.verdict.UserTurnLeak || failed(r, "no_user_turn"))
	add("second_head", r.head)
	add("truncated", r.DoneReason == "length")
	if p.Kind == OtherLanguage { // the answer may be in that language
		return
	}
	add("third_person", failed(r, "first_person"))
	add("foreign_script", r.verdict.ForeignScript)
	add("markdown", r.verdict.Markdown)
	add("stage_direction", r.verdict.StageDirection)
	add("user_address", failed(r, "no_wrong_address"))
	add("repetition", r.repeats)
	add("sentence_border", !failed(r, "sentence_border"))
	if has(r.checked, "length") {
		add("length", !failed(r, "length"))
	}
	if len(s.rules.card.HonorificEndings) == 0 {
		return
	}
	add("honorific", !failed(r, "honorific"))
	for _, sentence := range persona.Sentences(r.Text) {
		add("honorific_sentences", s.rules.check.Turn(sentence, r.Question, false).Honorific)
	}
}

func failure(r *Reply) Failure { return Failure{r.Probe, r.Turn, r.Seed, r.Text} }

func failed(r *Reply, names ...string) bool {
	for _, name := range names {
		if has(r.Failed, name) {
			return true
		}
	}
	return false
}

func has(list []string, want string) bool { return slices.Contains(list, want) }

// retest compares the replies to one probe under different seeds.
func (s *scores) retest(probes []Probe, replies map[string][]Reply) {
	for i := range probes {
		p := &probes[i]
		again := replies[p.ID]
		if !retested(p) {
			continue
		}
		var good []bool
		for k := range again {
			ok := again[k].verdict.OwnName
			if p.Kind == Fact {
				ok = !failed(&again[k], "accept", "reject")
			} else {
				s.by["retest_own_name"].add(ok, failure(&again[k]))
			}
			for j, before := range good {
				if same := before == ok; same {
					s.by["retest_agreement"].add(true, Failure{})
				} else {
					worse := k
					if ok {
						worse = j
					}
					s.by["retest_agreement"].add(false, failure(&again[worse]))
				}
			}
			good = append(good, ok)
		}
	}
}

// CheckCount is how many replies pass a check, in the probe set, by topic.
type CheckCount struct {
	Topic  string `json:"topic"`
	Check  string `json:"check"`
	Passed int    `json:"passed"`
	Of     int    `json:"of"`
}

// interviewed is what the replies of one speaker come to.
type interviewed struct {
	greedy, sampled []Score
	checks          []CheckCount
	means           []Mean
}

// evaluate counts all replies.
func (v *interviewer) evaluate(replies []Reply) interviewed {
	byID := map[string]*Probe{}
	for i := range v.probes {
		byID[v.probes[i].ID] = &v.probes[i]
	}
	greedy, sampled := newScores(v.rules), newScores(v.rules)
	again := map[string][]Reply{}
	counts := map[[2]string]*CheckCount{}
	var topics []string
	lengths := map[string][]float64{}
	for from := 0; from < len(replies); {
		to := from + 1
		for !replies[to-1].Last {
			to++
		}
		conversation, p := replies[from:to], byID[replies[from].Probe]
		from = to
		last := conversation[len(conversation)-1]
		if last.Seed == 0 {
			greedy.probed(p, conversation)
			for _, r := range conversation {
				lengths["sentence"] = append(lengths["sentence"], float64(r.sentences))
				lengths["character"] = append(lengths["character"], float64(len([]rune(r.Text))))
				lengths["token"] = append(lengths["token"], float64(r.Tokens))
			}
			if p.Kind == Set {
				topics = countChecks(counts, topics, p, &last)
			}
			continue
		}
		if int(last.Seed-max(v.seed, 1)) < v.samples {
			sampled.probed(p, conversation)
		}
		if retested(p) {
			again[p.ID] = append(again[p.ID], last)
		}
	}
	greedy.retest(v.probes, again)
	out := interviewed{greedy: greedy.list(), sampled: sampled.list()}
	for _, topic := range topics {
		for _, name := range CheckNames {
			if c := counts[[2]string{topic, name}]; c != nil {
				out.checks = append(out.checks, *c)
			}
		}
	}
	for _, unit := range []string{"sentence", "character", "token"} {
		out.means = append(out.means, meanOf(unit+"s", unit, lengths[unit], uint64(v.seed)))
	}
	return out
}

func countChecks(counts map[[2]string]*CheckCount, topics []string, p *Probe, r *Reply) []string {
	for _, topic := range p.Topics {
		if !has(topics, topic) {
			topics = append(topics, topic)
		}
		for _, name := range r.checked {
			key := [2]string{topic, name}
			if counts[key] == nil {
				counts[key] = &CheckCount{Topic: topic, Check: name}
			}
			counts[key].Of++
			if !failed(r, name) {
				counts[key].Passed++
			}
		}
	}
	return topics
}
