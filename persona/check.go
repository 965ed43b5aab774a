package persona

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/persona-gguf/persona-gguf/internal/strictyaml"
)

var slug = regexp.MustCompile(`^[a-z0-9][a-z0-9_]*$`)

// metrics are what the data check counts; a gate may be set on each.
var metrics = []string{
	"own_name", "own_name_identity", "identity_turns", "protective_turns", "wrong_persona", "third_person", "foreign_script",
	"control_text", "user_turn_leak", "markdown", "user_address", "honorific", "repetition", "near_duplicates",
	"stage_direction", "thoughts", "too_long",
}

// check finds what is missing, out of range, or contradicts itself.
func (c *Card) check() error {
	for _, step := range []func() error{c.checkKeys, c.checkNames, c.checkTexts, c.checkNumbers} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Card) checkKeys() error {
	for _, key := range []string{"version", "id", "name", "persona"} {
		if c.lines[key] == 0 {
			return c.errorAt(key, "got no such key, want it: it has no default")
		}
	}
	if c.Version != 1 {
		return c.errorAt("version", "got %d, want 1", c.Version)
	}
	if !slug.MatchString(c.ID) {
		return c.errorAt("id", "got %q, want lower-case letters, digits and _", c.ID)
	}
	if strings.TrimSpace(c.Persona) == "" {
		return c.errorAt("persona", "got no text, want who the character is")
	}
	if text := findControl(c.Persona, nil); text != "" {
		return c.errorAt("persona", "got the control token %q in it, want plain text", text)
	}
	for _, choice := range []struct {
		key, got string
		want     []string
	}{
		{"format", string(c.Format), []string{string(ChatML), string(TrainableAgents)}},
		{"unknown_speakers", c.UnknownSpeakers, []string{"drop", "keep"}},
	} {
		if !slices.Contains(choice.want, choice.got) {
			return c.errorAt(choice.key, "got %q, want %s", choice.got, strings.Join(choice.want, " or "))
		}
	}
	return nil
}

// named is a name or alias with the key that gives it.
type named struct{ key, name string }

func (c *Card) names() (all []named) {
	add := func(key, name string, aliases []string) {
		all = append(all, named{strictyaml.Join(key, "name"), name})
		for i, alias := range aliases {
			all = append(all, named{fmt.Sprintf("%s[%d]", strictyaml.Join(key, "aliases"), i), alias})
		}
	}
	add("", c.Name, c.Aliases)
	add("user", c.User.Name, c.User.Aliases)
	for i, role := range c.Cast {
		add(fmt.Sprintf("cast[%d]", i), role.Name, role.Aliases)
	}
	return all
}

// checkNames wants names that can be told apart and that can head a turn.
func (c *Card) checkNames() error {
	seen, folded := map[string]string{}, map[string]named{}
	for _, n := range c.names() {
		if n.name == "" || strings.TrimSpace(n.name) != n.name {
			return c.errorAt(n.key, "got %q, want a name without space around it", n.name)
		}
		if strings.ContainsFunc(n.name, func(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(":：()<>|[]", r) }) {
			return c.errorAt(n.key, "got %q, want a name without brackets, colons and control characters", n.name)
		}
		if first, ok := seen[n.name]; ok {
			return c.errorAt(n.key, "got %q, want a name of its own: %s is the same", n.name, first)
		}
		seen[n.name] = n.key
		if first, ok := folded[NameKey(n.name)]; ok && owner(first.key) != owner(n.key) {
			return c.errorAt(n.key, "got %q, want a name that only one has: %s is %q, and data may have either case", n.name, first.key, first.name)
		}
		folded[NameKey(n.name)] = n
	}
	for i, word := range c.User.ForbiddenAddress {
		if slices.Contains(c.User.Address, word) {
			return c.errorAt(fmt.Sprintf("user.forbidden_address[%d]", i), "got %q, want it here or in user.address, not in both", word)
		}
	}
	for i, text := range c.Forbidden {
		for _, n := range c.names() {
			if text != "" && strings.Contains(n.name, text) {
				return c.errorAt(fmt.Sprintf("forbidden[%d]", i), "got %q, want nothing that %s (%q) contains", text, n.key, n.name)
			}
		}
	}
	return nil
}

// owner is whose name a key gives: "" for the character's, "user", "cast[1]".
func owner(key string) string {
	at := strings.IndexByte(key, '.')
	if at < 0 {
		return ""
	}
	return key[:at]
}

// checkTexts wants lists without empty and repeated elements, and facts that an answer can meet.
func (c *Card) checkTexts() error {
	lists := map[string][]string{
		"scene_types": c.SceneTypes, "identity_questions": c.IdentityQuestions, "forbidden": c.Forbidden,
		"honorific_endings": c.HonorificEndings, "protective_topics": c.ProtectiveTopics,
		"user.address": c.User.Address, "user.forbidden_address": c.User.ForbiddenAddress,
	}
	questions := map[string]int{}
	for i, fact := range c.Facts {
		key := fmt.Sprintf("facts[%d]", i)
		if first, ok := questions[fact.Question]; ok {
			return c.errorAt(key+".question", "got %q again, want it once: facts[%d] has it on line %d", fact.Question, first, c.lines[fmt.Sprintf("facts[%d].question", first)])
		}
		questions[fact.Question] = i
		if fact.Question == "" || len(fact.Accept) == 0 {
			return c.errorAt(key, "got no question or nothing to accept, want both")
		}
		lists[key+".accept"], lists[key+".reject"] = fact.Accept, fact.Reject
		for j, text := range fact.Reject {
			for _, accepted := range fact.Accept {
				if text != "" && strings.Contains(accepted, text) {
					return c.errorAt(fmt.Sprintf("%s.reject[%d]", key, j), "got %q, want nothing that the accepted %q contains", text, accepted)
				}
			}
		}
	}
	if err := c.checkForbidden(lists); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		for i, text := range lists[key] {
			if strings.TrimSpace(text) == "" {
				return c.errorAt(fmt.Sprintf("%s[%d]", key, i), "got no text, want some")
			}
			if first := slices.Index(lists[key], text); first < i {
				return c.errorAt(fmt.Sprintf("%s[%d]", key, i), "got %q again, want it once", text)
			}
		}
	}
	return nil
}

// checkForbidden wants nothing forbidden that the card itself asks for.
func (c *Card) checkForbidden(lists map[string][]string) error {
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		if key != "user.address" && !strings.HasSuffix(key, ".accept") {
			continue
		}
		for i, text := range lists[key] {
			for j, forbidden := range c.Forbidden {
				if forbidden != "" && Word(text, forbidden, false) {
					return c.errorAt(fmt.Sprintf("%s[%d]", key, i), "got %q, want nothing that is forbidden: forbidden[%d] on line %d is %q",
						text, j, c.lines[fmt.Sprintf("forbidden[%d]", j)], forbidden)
				}
			}
		}
	}
	for _, word := range c.User.ForbiddenAddress {
		if s, ok := c.Speakers()[NameKey(word)]; ok && s.Kind == Visitor {
			return c.errorAt("user.forbidden_address", "got %q, want no name of the user's: user.name or user.aliases has it on line %d", word, c.lines["user"])
		}
	}
	return nil
}

func (c *Card) checkNumbers() error {
	s := c.Sampling
	for _, number := range []struct {
		key              string
		got, least, most float64
	}{
		{"scenes_per_paragraph", float64(c.ScenesPerParagraph), 1, 1000},
		{"dialogues_per_scene", float64(c.DialoguesPerScene), 1, 1000},
		{"shares.identity", c.Shares.Identity, 0, 1},
		{"shares.protective", c.Shares.Protective, 0, 1 - c.Shares.Identity},
		{"sampling.temperature", s.Temperature, 0, 10},
		{"sampling.top_p", s.TopP, 0, 1},
		{"sampling.top_k", float64(s.TopK), 0, 1 << 30},
		{"sampling.num_predict", float64(s.NumPredict), 1, 1 << 30},
		{"sampling.repeat_penalty", s.RepeatPenalty, 0, 10},
		{"sampling.repeat_last_n", float64(s.RepeatLastN), -1, 1 << 30},
		{"sampling.num_ctx", float64(s.NumCtx), 1, 1 << 30},
	} {
		if !(number.got >= number.least && number.got <= number.most) {
			return c.errorAt(number.key, "got %v, want %v to %v", number.got, number.least, number.most)
		}
	}
	if s.NumPredict >= s.NumCtx {
		return c.errorAt("sampling.num_predict", "got %d, want less than sampling.num_ctx, %d", s.NumPredict, s.NumCtx)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Gates)) {
		if !slices.Contains(metrics, name) {
			return c.errorAt("gates."+name, "unknown metric: want one of %s", strings.Join(metrics, ", "))
		}
		if v := c.Gates[name]; !(v >= 0 && v <= 1) {
			return c.errorAt("gates."+name, "got %v, want a share, 0 to 1", v)
		}
	}
	for share, value := range map[string]float64{"identity": c.Shares.Identity, "protective": c.Shares.Protective} {
		if gate := c.Gates[share+"_turns"]; gate > 0 && value == 0 {
			return c.errorAt("gates."+share+"_turns", "got %v, want 0: shares.%s on line %d plans none", gate, share, c.lines["shares"])
		}
	}
	return nil
}
