package gen

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// The kinds of jobs. A run of dialogues has jobs of the last three in the shares of the card.
const (
	sceneKind      = "scene"
	dialogueKind   = "dialogue"
	identityKind   = "identity"
	protectiveKind = "protective"
)

// job is one wanted scene or dialogue.
type job struct {
	key     string
	kind    string
	group   *group
	ordinal int    // in the group, from 1
	subject string // what an identity or protective dialogue is about
	done    bool
}

// group is a paragraph with its scenes, or a scene with its dialogues.
type group struct {
	id    string
	text  string         // the profile's paragraph
	scene *journal.Scene // nil for a paragraph
	jobs  []*job

	known      []string // what answers so far were about, to be told to the next ones
	answered   int      // answers that were compared with others
	duplicates int      // of them
	stopped    bool     // so many were duplicates that no more are asked for
}

// plan is all jobs of a run.
type plan struct {
	run    string // hash of what the keys have in common
	groups []*group
	jobs   []*job
	byKey  map[string]*job
}

// cardPart is what of the card an answer depends on.
type cardPart struct {
	Name, Language, User string
	Cast                 []string
	Persona              string
	SceneTypes           []string
	Identity, Protective []string
}

// newPlan lays out the jobs. Neither date nor host nor the order of answers is in a key, and no rendered prompt.
func newPlan(o *Options) (*plan, error) {
	c := o.Card
	part := cardPart{Name: c.Name, Language: c.Language, User: c.User.Name, Cast: castNames(c), Persona: c.Persona}
	if o.Kind == prompt.Scene {
		part.SceneTypes = c.SceneTypes
	} else {
		part.Identity, part.Protective = c.IdentityQuestions, c.ProtectiveTopics
	}
	options := o.Sampling
	p := &plan{byKey: map[string]*job{}}
	p.run = digest("run", string(o.Kind), mustJSON(part), o.Template.SHA256, o.Model, o.Format, mustJSON(options),
		mustJSON([]int{o.MinTurns, o.MaxTurns, o.MaxChars}))
	if err := p.readGroups(o); err != nil {
		return nil, err
	}
	if len(p.groups) == 0 {
		return nil, errors.New("got nothing to make jobs of, want paragraphs or scenes")
	}
	if o.Kind == prompt.Protective && len(c.ProtectiveTopics) == 0 {
		return nil, errors.New("protective_topics: got none on the card, want what the character cannot know")
	}
	for _, g := range p.groups {
		for k := range o.count() {
			p.add(newJob(p.run, g, o, k+1))
		}
	}
	return p, nil
}

// count is how many jobs a group has.
func (o *Options) count() int {
	switch {
	case o.Count > 0:
		return o.Count
	case o.Kind == prompt.Scene:
		return o.Card.ScenesPerParagraph
	case o.Kind == prompt.Dialogue:
		return o.Card.DialoguesPerScene
	}
	return 1
}

func (p *plan) add(j *job) {
	j.group.jobs = append(j.group.jobs, j)
	p.jobs = append(p.jobs, j)
	p.byKey[j.key] = j
}

// readGroups reads the paragraphs or scenes; one that occurs twice counts once.
func (p *plan) readGroups(o *Options) error {
	seen := map[string]bool{}
	add := func(g *group) {
		if seen[g.id] {
			o.Warn(fmt.Sprintf("%s: got it twice, want it once: %.60q", o.Kind, g.text))
			return
		}
		seen[g.id] = true
		p.groups = append(p.groups, g)
	}
	if o.Kind == prompt.Dialogue {
		scenes, err := readScenes(o.Scenes)
		if err != nil {
			return err
		}
		for _, s := range scenes {
			add(&group{id: digest("scene", s.Type, s.Location, s.Background, s.Profile)[:16], text: s.Profile, scene: &s.Scene})
		}
		return nil
	}
	profile, err := persona.ReadProfile(o.Profile)
	if err != nil {
		return err
	}
	for _, warning := range profile.Lint(o.Card) {
		o.Warn(fmt.Sprintf("profile %s: %s", o.Profile, warning))
	}
	for _, paragraph := range profile.Paragraphs {
		add(&group{id: paragraph.ID, text: paragraph.Text})
	}
	return nil
}

// parsedScene is an element of a file of parsed scenes.
type parsedScene struct {
	journal.Scene
	Profile string `json:"profile"`
}

func readScenes(path string) ([]parsedScene, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read scenes: %w", err)
	}
	var scenes []parsedScene
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &scenes); err != nil {
		return nil, fmt.Errorf("read scenes %s: %w: want the array that 'parse scene' writes", path, err)
	}
	for i, s := range scenes {
		if s.Background == "" {
			return nil, fmt.Errorf("read scenes %s: scene %d: background: got none, want one", path, i+1)
		}
	}
	return scenes, nil
}

// newJob makes the job with an ordinal. What kind of dialogue it is follows from scene and ordinal alone, so that more
// scenes or more dialogues leave the others as they are; over many the shares are those of the card.
func newJob(run string, g *group, o *Options, ordinal int) *job {
	j := &job{kind: string(o.Kind), group: g, ordinal: ordinal}
	if o.Kind == prompt.Dialogue {
		_, part := math.Modf(unit(run, g.id) + float64(ordinal)*math.Phi) // evenly spread over the ordinals of a scene
		shares := o.Card.Shares
		switch {
		case part < shares.Identity && len(o.Card.IdentityQuestions) > 0:
			j.kind = identityKind
		case part >= 1-shares.Protective && len(o.Card.ProtectiveTopics) > 0:
			j.kind = protectiveKind
		}
	}
	j.key = digest(run, g.id, j.kind, fmt.Sprint(ordinal))
	switch j.kind {
	case identityKind:
		j.subject = pick(o.Card.IdentityQuestions, j.key)
	case protectiveKind:
		j.subject = pick(o.Card.ProtectiveTopics, j.key)
	}
	return j
}

// pick chooses an element by a key.
func pick(list []string, key string) string {
	if len(list) == 0 {
		return ""
	}
	return list[int(unit("pick", key)*float64(len(list)))]
}

// castNames are the names that may speak, the character first.
func castNames(c *persona.Card) []string {
	names := []string{c.Name, c.User.Name}
	for _, role := range c.Cast {
		names = append(names, role.Name)
	}
	return names
}

// digest hashes texts so that no two lists of them give the same text.
func digest(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(text)))
		h.Write(n[:])
		h.Write([]byte(text))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// unit hashes texts to a number from 0 to below 1.
func unit(texts ...string) float64 {
	n, err := hex.DecodeString(digest(texts...))
	if err != nil {
		panic(err) // digest writes hexadecimal
	}
	return float64(binary.BigEndian.Uint64(n)>>11) / (1 << 53)
}

// seed is the seed of a try: another one for each, the same whenever it is made.
func seed(base int, key string, attempt int) int {
	return int(unit("seed", fmt.Sprint(base), key, fmt.Sprint(attempt)) * math.MaxInt32)
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only for types of ours
	}
	return string(text)
}

// FindScenes gives the latest file of a character's parsed scenes under root.
func FindScenes(root string, c *persona.Card) (string, error) {
	path, _, err := raw.FindParsed(root, parse.Name("scene", c.ID, c.Language))
	return path, err
}
