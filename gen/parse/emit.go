package parse

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"

	"github.com/persona-gguf/persona-gguf/gen/raw"
)

// dialogue takes the reading of one row, in the order of the files.
func (r *run) dialogue(path string, p parsedRow[Dialogue], scenes map[sceneID][]string) error {
	if p.row == nil {
		r.reject(path, p.number, CodeDamaged, "")
		r.report.Of++
		return nil
	}
	if p.row.Failed() {
		r.reject(path, p.number, CodeCheckFailed, "")
		return nil
	}
	id, ok := r.admit(p.row, p.hash)
	if !ok {
		r.reject(path, p.number, CodeDuplicate, string(p.row.ID))
		return nil
	}
	d := p.parsed
	r.report.Of++
	for code, n := range d.Notes {
		count(r.report.Notes, code, n)
	}
	item := Item{Background: d.Background, Dialogue: d.Turns, Location: p.row.Location, Source: "seed_dialogue_" + id, Type: p.row.Type, Ordinal: p.k, Kind: p.row.Kind}
	for _, drop := range d.Dropped {
		r.report.TurnCodes[drop.Code]++
		r.drop(Dropped{path, p.number, drop.Item, drop.Code, drop.Text})
		if drop.Code == CodeInventedTurn {
			item.Flags = append(item.Flags, drop.Code)
		}
	}
	r.report.TurnsOf += len(d.Turns) + len(d.Dropped)
	if d.Code != "" {
		r.reject(path, p.number, d.Code, "")
		return nil
	}
	r.report.Turns += len(d.Turns)
	r.report.Kept++
	r.background(d.Background)
	if s := p.row.Scene; s != nil {
		item.Location, item.Type = s.Location, s.Type
	}
	item.Scene = r.sceneOf(p.row, scenes)
	if item.Kind == "" {
		item.Kind = r.Kind
	}
	if item.Kind == "protective" {
		r.protective(&item)
	}
	return r.emit(&item)
}

// protective makes every turn of a protective dialogue spoken, since these are asked for without thoughts.
func (r *run) protective(item *Item) {
	for i := range item.Dialogue {
		item.Dialogue[i].Action = r.Card.Speak()
	}
}

// sceneID is what older rows copy of their scene.
type sceneID struct{ location, background, kind string }

// knownScenes are the sources of the parsed scenes. There need be none.
func (r *run) knownScenes() (map[sceneID][]string, error) {
	path, _, err := raw.FindParsed(r.Root, Name("scene", r.Character, r.Card.Language))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := raw.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[sceneID][]string{}
	for i := range f.Len() {
		row, err := f.Row(i)
		if err != nil {
			return nil, fmt.Errorf("parsed scenes: %w", err)
		}
		id := sceneID{row.Location, row.Background, row.Type}
		out[id] = append(out[id], row.Source)
	}
	return out, nil
}

// sceneOf gives what identifies the scene of a row: its source, if the row has it or the parsed scenes tell, else
// a hash of what the row copies of it. Rows that match no scene or several are counted.
func (r *run) sceneOf(row *raw.Row, scenes map[sceneID][]string) string {
	if row.SceneSource != "" {
		return row.SceneSource
	}
	if row.SceneKey != "" {
		return row.SceneKey
	}
	if row.Scene == nil {
		return ""
	}
	id := sceneID{row.Scene.Location, row.Scene.Background, row.Scene.Type}
	found := scenes[id]
	switch {
	case len(found) == 1:
		return found[0]
	case len(found) > 1:
		count(r.report.Notes, "scene_ambiguous", 1)
	case scenes != nil:
		count(r.report.Notes, "scene_unknown", 1)
	}
	sum := sha256.Sum256([]byte(id.location + "\x00" + id.background + "\x00" + id.kind))
	return "scene_" + hex.EncodeToString(sum[:8])
}

var variant = regexp.MustCompile(`현재는\s*(\d{1,4})\s*번째\s*대화`)

// ordinal is which dialogue of its scene a row is, 0 if neither the row nor its prompt says it.
func ordinal(row *raw.Row) int {
	if row.Ordinal != nil {
		return *row.Ordinal
	}
	if m := variant.FindStringSubmatch(row.Prompt); m != nil {
		n, _ := strconv.Atoi(m[1]) // four digits at most
		return n
	}
	return 0
}

// scenes takes the reading of one scene row.
func (r *run) scenes(path string, p parsedRow[SceneReply]) error {
	if p.row == nil {
		r.reject(path, p.number, CodeDamaged, "")
		r.report.Of++
		return nil
	}
	if p.row.Failed() {
		r.reject(path, p.number, CodeCheckFailed, "")
		return nil
	}
	id, ok := r.admit(p.row, p.hash)
	if !ok {
		r.reject(path, p.number, CodeDuplicate, string(p.row.ID))
		return nil
	}
	for code, n := range p.parsed.Notes {
		count(r.report.Notes, code, n)
	}
	if p.parsed.Code != "" {
		r.reject(path, p.number, p.parsed.Code, "")
		r.report.Of++
		return nil
	}
	for _, d := range p.parsed.Dropped {
		r.report.Codes[d.Code]++
		r.drop(Dropped{path, p.number, d.Item, d.Code, d.Text})
	}
	r.report.Of += len(p.parsed.Dropped) + len(p.parsed.Scenes)
	r.report.Kept += len(p.parsed.Scenes)
	for n, s := range p.parsed.Scenes {
		s.Source = fmt.Sprintf("seed_scene_%s_c%d", id, n+1)
		r.report.Types[s.Type]++
		r.background(s.Background)
		if err := r.emit(&s); err != nil {
			return err
		}
	}
	return nil
}
