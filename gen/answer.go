package gen

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode"

	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/persona"
)

// The reasons for which an answer is not taken. The reasons of calls that bring no answer are the engine's.
const (
	reasonEmpty      = "empty"            // nothing came
	reasonTruncated  = "truncated"        // num_predict or the context ended it
	reasonRepetition = "repetition"       // the same again and again
	reasonLanguage   = "wrong_language"   // not the card's language
	reasonSchema     = "schema"           // not of the form that was asked for
	reasonSpeaker    = "unknown_speaker"  // a role that is not in the cast
	reasonShort      = "too_short"        // fewer turns than wanted, or none of the character
	reasonSubject    = "off_subject"      // of an identity dialogue: nobody asks who the character is
	reasonNameless   = "no_name"          // asked who it is, the character does not say its name
	reasonBackground = "short_background" // shorter than the floor
	reasonMissing    = "missing"          // a call for several scenes gave fewer
	reasonDuplicate  = "near_duplicate"   // nearly what another job has
)

// dialogue is an answer.
type dialogue struct {
	Background string `json:"background"`
	Turns      []turn `json:"turns"`
}

type turn struct {
	Role    string `json:"role"`
	Action  string `json:"action"`
	Content string `json:"content"`
}

// isTruncated tells whether a length limit ended the answer.
func isTruncated(doneReason string) bool { return doneReason == "length" }

// unfence takes a code fence around an answer off.
func unfence(text string) string {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "```"); ok {
		if i := strings.IndexByte(rest, '\n'); i >= 0 {
			text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest[i:]), "```"))
		}
	}
	return text
}

// decodeScenes reads {"scenes": […]} or a bare array, also one that breaks off: every complete element counts.
func decodeScenes(text string) (scenes []journal.Scene, whole bool) {
	text = unfence(text)
	i := strings.IndexByte(text, '[')
	if i < 0 {
		return nil, false
	}
	d := json.NewDecoder(strings.NewReader(text[i:]))
	whole = elements(d, func() error {
		var s journal.Scene
		err := d.Decode(&s)
		s.Source = ""
		if err == nil || isType(err) {
			scenes = append(scenes, s)
		}
		return err
	})
	return scenes, whole
}

// elements reads the array that begins here, and tells whether it reached its end.
func elements(d *json.Decoder, decode func() error) bool {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return false
	}
	for d.More() {
		if err := decode(); err != nil && !isType(err) {
			return false
		}
	}
	_, err := d.Token()
	return err == nil
}

// isType tells whether an error is about a value of another type, behind which the decoder goes on.
func isType(err error) bool {
	var wrong *json.UnmarshalTypeError
	return errors.As(err, &wrong)
}

// decodeDialogue reads {"background": …, "turns": […]}, also one that breaks off: every complete turn counts.
func decodeDialogue(text string) (out dialogue, whole bool) {
	d := json.NewDecoder(strings.NewReader(unfence(text)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return out, false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return out, false
		}
		switch key {
		case "background":
			if err := d.Decode(&out.Background); err != nil && !isType(err) {
				return out, false
			}
		case "turns":
			ok := elements(d, func() error {
				var t turn
				err := d.Decode(&t)
				if err == nil {
					out.Turns = append(out.Turns, t)
				}
				return err
			})
			if !ok {
				return out, false
			}
		default:
			var other json.RawMessage
			if err := d.Decode(&other); err != nil {
				return out, false
			}
		}
	}
	if _, err := d.Token(); err != nil {
		return out, false
	}
	_, err := d.Token()
	return out, errors.Is(err, io.EOF)
}

// line puts a text on one line.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }

// checkScene gives the reason for which a scene is not taken, or "".
func (o *Options) checkScene(s *journal.Scene) string {
	s.Type, s.Location, s.Background = line(s.Type), line(s.Location), line(s.Background)
	switch {
	case !hasLetter(s.Background) || !hasLetter(s.Location) || s.Type == "":
		return reasonEmpty
	case len([]rune(s.Background)) < o.MinBackground:
		return reasonBackground
	case degenerate(s.Background) || degenerate(s.Location):
		return reasonRepetition
	case wrongLanguage(s.Location+" "+s.Background, o.Card.Language):
		return reasonLanguage
	}
	return ""
}

// checkDialogue gives the reason for which a dialogue of a kind is not taken, or "".
func (o *Options) checkDialogue(d *dialogue, kind string) string {
	own, named, all := false, false, ""
	asked := "" // by the turn before, who the character is
	seen := map[string]int{}
	for i := range d.Turns {
		t := &d.Turns[i]
		who, ok := o.Card.Speaker(t.Role)
		if !ok && o.Card.UnknownSpeakers != "keep" {
			return reasonSpeaker
		}
		if !hasLetter(t.Content) {
			return reasonEmpty
		}
		switch {
		case ok && who.Kind == persona.Character:
			own = true
			if asked != "" && !o.rules.Turn(t.Content, asked, true).OwnName {
				return reasonNameless
			}
			named, asked = named || asked != "", ""
		case ok && who.Kind == persona.Visitor && o.rules.AsksWho(t.Content):
			asked = t.Content
		}
		all += t.Content + "\n"
		if seen[line(t.Content)]++; seen[line(t.Content)] >= 3 {
			return reasonRepetition
		}
	}
	switch {
	case len(d.Turns) < o.MinTurns || !own:
		return reasonShort
	case kind == identityKind && !named:
		return reasonSubject
	case degenerate(all):
		return reasonRepetition
	case wrongLanguage(all, o.Card.Language):
		return reasonLanguage
	}
	return ""
}

func hasLetter(text string) bool { return strings.ContainsFunc(text, unicode.IsLetter) }

// laughter are letters that may be repeated at will.
const laughter = "ㅋㅎㅠㅜㅡ하호히헤흐크후아오우음hae"

// degenerate finds a piece of 1 to 12 letters that is repeated without end, and a sentence that comes back and back.
// Marks and laughter do not count.
func degenerate(text string) bool {
	runes := []rune(text)
	for period := 1; period <= 12; period++ {
		run := 0
		for i := period; i < len(runes); i++ {
			if runes[i] != runes[i-period] {
				run = 0
				continue
			}
			if run++; run >= max(7*period, 10) && speaks(runes[i-period+1:i+1]) {
				return true
			}
		}
	}
	count := map[string]int{}
	for _, sentence := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(".!?。\n", r) }) {
		if sentence = line(sentence); len([]rune(sentence)) >= 8 {
			if count[sentence]++; count[sentence] >= 4 {
				return true
			}
		}
	}
	return false
}

// speaks tells whether a piece has letters that are no laughter.
func speaks(piece []rune) bool {
	for _, r := range piece {
		if unicode.IsLetter(r) && !strings.ContainsRune(laughter, unicode.ToLower(r)) {
			return true
		}
	}
	return false
}

// The share of letters that must be of the language's script, and of ideographs in Korean that may not.
const (
	ownScript  = 0.7
	ideographs = 0.05
)

// wrongLanguage looks at the scripts of the letters.
func wrongLanguage(text, language string) bool {
	own, foreign, all := 0, 0, 0
	script := unicode.Hangul
	if language == "english" {
		script = unicode.Latin
	}
	for _, r := range text {
		if !unicode.IsLetter(r) {
			continue
		}
		all++
		if unicode.Is(script, r) {
			own++
		} else if unicode.Is(unicode.Han, r) {
			foreign++
		}
	}
	return float64(own) < ownScript*float64(all) || float64(foreign) > ideographs*float64(all)
}
