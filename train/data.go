package train

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/persona"
)

// data are the records as the trainer gets them.
type data struct {
	records     []persona.Record
	train, eval int
	format      persona.Format
	longest     int // code points of the longest text; no tokenizer makes more tokens of Hangul or Latin text
	sha256      string
}

// readData reads the records and decides which of them are held out.
func readData(o *Options) (*data, error) {
	read := persona.ReadOptions{Strict: o.Strict}
	if o.Card != nil {
		r, err := persona.NewRenderer(o.Card, persona.Options{})
		if err != nil {
			return nil, err
		}
		read.Renderer = r
	}
	records, found, err := persona.ReadRecords(o.DataPath, read)
	if err != nil {
		return nil, err
	}
	for _, warning := range found.Warnings {
		o.warn("%s", warning)
	}
	d := &data{records: records, format: records[0].Format}
	for i := range records {
		if records[i].Format != d.format {
			return nil, fmt.Errorf("read records %s: record %d: format: got %s, want %s as in the first", o.DataPath, i+1, records[i].Format, d.format)
		}
		d.longest = max(d.longest, utf8.RuneCountInString(records[i].Text()))
	}
	if err := d.split(o); err != nil {
		return nil, fmt.Errorf("read records %s: %w", o.DataPath, err)
	}
	var text strings.Builder
	if err := persona.WriteRecords(&text, records); err != nil {
		return nil, err
	}
	d.sha256 = sha256Text(text.String())
	return d, nil
}

const defaultEvalSplit = 0.02

// split holds out the records that say so. Where none says anything, it holds out a share of the sources, so that
// nothing of a held-out one is trained on; which ones depends on the seed and their names only.
func (d *data) split(o *Options) error {
	decided := slices.ContainsFunc(d.records, func(r persona.Record) bool { return r.Split != "" })
	if decided && o.EvalSplit >= 0 {
		return errors.New("split: got records that say whether they are held out and eval_split too, want one of them")
	}
	if !decided {
		d.holdOut(o)
	}
	for i := range d.records {
		switch d.records[i].Split {
		case "eval":
			d.eval++
		case "train":
			d.train++
		default:
			return fmt.Errorf("record %d: split: got none, want train or eval as in the others", i+1)
		}
	}
	if d.train == 0 {
		return errors.New("split: got no record to train on")
	}
	return nil
}

func (d *data) holdOut(o *Options) {
	share := o.EvalSplit
	if share < 0 {
		share = defaultEvalSplit
	}
	keys := map[string]string{} // source, or text where there is none, to its place in a random order
	group := func(r *persona.Record) string {
		if r.Source != "" {
			return r.Source
		}
		return r.Text()
	}
	for i := range d.records {
		key := group(&d.records[i])
		keys[key] = sha256Text(fmt.Sprintf("%d %s", o.Seed, key))
	}
	order := make([]string, 0, len(keys))
	for key := range keys {
		order = append(order, key)
	}
	slices.SortFunc(order, func(a, b string) int { return strings.Compare(keys[a], keys[b]) })
	held := map[string]bool{}
	if len(order) > 1 {
		for _, key := range order[:min(int(math.Ceil(share*float64(len(order)))), len(order)-1)] {
			held[key] = true
		}
	}
	for i := range d.records {
		d.records[i].Split = "train"
		if held[group(&d.records[i])] {
			d.records[i].Split = "eval"
		}
	}
}

// evalShare is the part of the records that is held out.
func (d *data) evalShare() float64 { return float64(d.eval) / float64(d.train+d.eval) }

// write writes the records for the trainer.
func (d *data) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = persona.WriteRecords(f, d.records)
	return errors.Join(err, f.Close())
}
