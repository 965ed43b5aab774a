package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/gen/check"
	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/gen/sft"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

// maxWarnings are printed; a profile may have one for every paragraph.
const maxWarnings = 6

const checkHelp = `Check measures SFT records before anything is trained on them: own name, identity and protective turns, wrong persona,
third person, address of the user, honorifics, foreign script, leaks, repetition, near duplicates and lengths, each with
what it is a share of and the records behind it. Without SFT.jsonl the latest of the character under processed/ is taken.
Limits are the card's gates, and defaults for the others; --gate ends with status 1 if one is not passed. That there is no
protective turn, and that persona or profile contradict a fact of the card, is an error in any case.`

func (a *app) check() *cobra.Command {
	var d dataFlags
	var o check.Options
	var model, html string
	var gate bool
	cmd := &cobra.Command{
		Use: "check [SFT.jsonl] --persona CARD", Short: "measure SFT records", Long: checkHelp,
		Args: arguments(0, 1, "one file of records, or none for the latest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !(o.Threshold > 0 && o.Threshold <= 1):
				return badUsage(cmd, fmt.Errorf("near-duplicate: got %v, want more than 0, at most 1", o.Threshold))
			case o.MaxLength < 1:
				return badUsage(cmd, fmt.Errorf("max-length: got %d, want 1 or more", o.MaxLength))
			}
			card, err := d.read(cmd)
			if err != nil {
				return err
			}
			o.Card = card
			records, path, err := a.recordsOf(card, &d, args)
			if err != nil {
				return err
			}
			if o.Profile, err = profileOf(card, d.root); err != nil {
				return err
			}
			if model != "" {
				if o.Model, err = sft.OpenTokenizer(cmd.Context(), model); err != nil {
					return err
				}
				defer o.Model.Close()
			}
			report, fault := check.Run(cmd.Context(), records, o)
			if report == nil {
				return fault
			}
			if html != "" {
				err = atomicfile.WriteFile(html, func(w io.Writer) error { return report.WriteHTML(w, card.Name) })
				if err != nil {
					return err
				}
			}
			if err := a.printCheck(report, path, html); err != nil {
				return err
			}
			if fault == nil && gate {
				fault = report.Passed()
			}
			return fault
		},
	}
	d.define(cmd)
	f := cmd.Flags()
	f.BoolVar(&gate, "gate", false, "end with status 1 if a gate is not passed")
	f.BoolVar(&o.NoProtective, "no-protective", false, "waive that there must be protective turns")
	f.StringVar(&html, "html", "", "write the report as a web page with histograms to this file")
	f.Float64Var(&o.Threshold, "near-duplicate", 0.8, "similarity from which on a record repeats another")
	f.StringVar(&model, "model", "", "GGUF file or Hugging Face folder whose tokenizer counts")
	f.IntVar(&o.MaxLength, "max-length", 2048, "tokens above which a record is too long, with --model")
	return cmd
}

// recordsOf reads the records that are named, or the latest.
func (a *app) recordsOf(card *persona.Card, d *dataFlags, args []string) ([]persona.Record, string, error) {
	path := ""
	if len(args) > 0 {
		path = args[0]
	} else {
		var err error
		if path, _, err = raw.FindParsed(d.root, filepath.Join("prompted", sft.Name(d.character))); err != nil {
			return nil, "", err
		}
	}
	renderer, err := persona.NewRenderer(card, persona.Options{})
	if err != nil {
		return nil, "", err
	}
	records, found, err := persona.ReadRecords(path, persona.ReadOptions{Renderer: renderer})
	for _, warning := range found.Warnings {
		slog.Warn(warning)
	}
	return records, path, err
}

// profileOf reads the card's profile, or that of the seed's layout, if there is one.
func profileOf(card *persona.Card, root string) (*persona.Profile, error) {
	path := card.ProfilePath()
	if path == "" {
		path = persona.SeedProfile(root, card.ID, card.Language)
		if !exists(path) {
			return nil, nil
		}
	}
	return persona.ReadProfile(path)
}

func (a *app) printCheck(r *check.Report, path, html string) error {
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.stdout, "%s\n%d records (%d to train on, %d held out), %d without near duplicates, %d turns of the character\n\n",
		printable(path), r.Records, r.Train, r.Eval, r.Unique, r.Turns)
	gates := map[string]check.Gate{}
	for _, g := range r.Gates {
		gates[g.Name] = g
	}
	t := newTable(a.stdout)
	t.row("metric", "count", "of", "share", "want", "")
	for _, name := range check.Names() {
		m := r.Metrics[name]
		want, verdict := wanted(gates, name)
		t.row(name, fmt.Sprint(m.N), fmt.Sprintf("%d %ss", m.Of, m.Unit), fmt.Sprintf("%.2f%%", 100*m.Share()), want, verdict)
	}
	want, verdict := wanted(gates, "contradictions")
	t.row("contradictions", fmt.Sprint(len(r.Contradictions)), "", "", want, verdict)
	t.row("", "", "", "", "", "")
	t.row("topic", "records", "turns", "share")
	for _, topic := range r.Topics {
		t.row(topic.Topic, fmt.Sprint(topic.Records), fmt.Sprint(topic.Turns), fmt.Sprintf("%.1f%%", 100*topic.Share))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	n := r.Lengths["record"]
	fmt.Fprintf(a.stdout, "\nlength of a record in %ss: %.0f in the mean, %.0f median, %.0f at 95%%, %.0f in the longest\n", r.LengthUnit, n.Mean, n.Median, n.P95, n.Max)
	if html != "" {
		fmt.Fprintf(a.stdout, "report: %s\n", printable(html))
	}
	for _, c := range r.Contradictions {
		slog.Warn(c.String())
	}
	for _, warning := range r.Warnings[:min(len(r.Warnings), maxWarnings)] {
		slog.Warn(warning)
	}
	if more := len(r.Warnings) - maxWarnings; more > 0 {
		slog.Warn(fmt.Sprintf("%d more warnings: --json has them all", more))
	}
	return nil
}

func wanted(gates map[string]check.Gate, name string) (want, verdict string) {
	g, ok := gates[name]
	if !ok {
		return "", ""
	}
	want = fmt.Sprintf("≤ %.4g", g.Want)
	switch {
	case g.AtLeast && g.Want == 0:
		want = "> 0"
	case g.AtLeast:
		want = fmt.Sprintf("≥ %.4g", g.Want)
	}
	switch {
	case g.Waived:
		return want, "waived"
	case g.OK:
		return want, "ok"
	}
	return want, "FAILED"
}
