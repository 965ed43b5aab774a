package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/gen/sft"
	"github.com/persona-gguf/persona-gguf/internal/unit"
	"github.com/persona-gguf/persona-gguf/persona"
)

const prepareHelp = `Prepare makes SFT records of parsed dialogues: the exact training text by the card's renderer, the character's turns as
spans with their end token, near duplicates left out, whole scenes held out. Without FILE the latest parsed dialogues of the
character under processed/ are taken, and the latest protective ones with them. The records are written to prompted/ beside
the parsed file. With --model tokens are counted with the model's own tokenizer, and chatml is rendered by its template.`

func (a *app) prepare() *cobra.Command {
	var d dataFlags
	o := sft.DefaultOptions()
	var format, model, template string
	cmd := &cobra.Command{
		Use: "prepare [FILE…] --persona CARD", Short: "make SFT records of parsed dialogues", Long: prepareHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPrepare(&o, template, model); err != nil {
				return badUsage(cmd, err)
			}
			card, err := d.read(cmd)
			if err != nil {
				return err
			}
			o.Card, o.Root, o.Character, o.Files, o.Format = card, d.root, d.character, args, persona.Format(format)
			o.Warn = func(s string) { slog.Warn(s) }
			if model != "" {
				if o.Model, err = sft.OpenTokenizer(cmd.Context(), model); err != nil {
					return err
				}
				defer o.Model.Close()
				note, err := o.ChooseTemplate(template)
				if err != nil {
					return err
				}
				if o.Template != nil {
					defer o.Template.Close()
				}
				slog.Info(note)
			}
			set, stop := a.stderr.progress("prepare")
			defer stop()
			o.Progress = set
			report, err := sft.Prepare(cmd.Context(), o)
			stop()
			if err != nil {
				return err
			}
			return a.printPrepared(report)
		},
	}
	d.define(cmd)
	f := cmd.Flags()
	f.StringVar(&format, "format", "", "chatml or trainable-agents (default: the card's)")
	f.StringVar(&o.End, "end", "", "end token of an utterance (default: <|im_end|>, or <|eot|> with trainable-agents)")
	f.BoolVar(&o.Thoughts, "thoughts", false, "keep what the character thinks (trainable-agents only)")
	f.Float64Var(&o.EvalShare, "eval-split", o.EvalShare, "share of the scenes that is held out")
	f.IntVar(&o.Seed, "seed", o.Seed, "seed of which scenes these are")
	f.Float64Var(&o.Threshold, "near-duplicate", o.Threshold, "similarity from which on a dialogue repeats another; 0 keeps all")
	f.StringVar(&model, "model", "", "GGUF file or Hugging Face folder whose tokenizer counts")
	f.IntVar(&o.MaxLength, "max-length", o.MaxLength, "tokens above which a record counts as too long")
	f.StringVar(&template, "template", "auto", "how chatml is rendered with --model: model for its template, own for the plain form, auto for model where it can")
	return cmd
}

func checkPrepare(o *sft.Options, template, model string) error {
	switch {
	case !(o.EvalShare >= 0 && o.EvalShare < 1):
		return fmt.Errorf("eval-split: got %v, want 0 to less than 1", o.EvalShare)
	case !(o.Threshold >= 0 && o.Threshold <= 1):
		return fmt.Errorf("near-duplicate: got %v, want 0 to 1", o.Threshold)
	case o.MaxLength < 1:
		return fmt.Errorf("max-length: got %d, want 1 or more", o.MaxLength)
	case !slices.Contains([]string{"auto", "own", "model"}, template):
		return fmt.Errorf("template: got %q, want auto, own or model", template)
	case template == "model" && model == "":
		return fmt.Errorf("template: got model without --model, want both")
	}
	return nil
}

func (a *app) printPrepared(r *sft.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.stdout, "%s\n%d records of %d dialogues: %d to train on, %d held out (%d of %d scenes)\n", printable(r.Output),
		r.Records, r.Items, r.Train, r.Eval, r.EvalScene, r.Scenes)
	t := newTable(a.stdout)
	for _, part := range []struct {
		name   string
		counts map[string]int
	}{{"kind", r.Kinds}, {"left out", r.Codes}, {"turns left out", r.TurnCodes}} {
		for _, code := range slices.Sorted(maps.Keys(part.counts)) {
			t.row(part.name, code, fmt.Sprint(part.counts[code]))
		}
	}
	for _, s := range r.Repeated[:min(5, len(r.Repeated))] {
		t.row("repeats", s.Scene, fmt.Sprintf("%d of %d", s.Duplicates, s.Dialogues))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if n := r.Tokens; n != nil {
		fmt.Fprintf(a.stdout, "%s tokens, %s learned, %.0f a record, %d in the longest, %d records over %d; counted in %s\n",
			unit.Count(int64(n.Total)), unit.Count(int64(n.Learned)), n.Mean, n.Longest, n.TooLong, n.MaxLength, unit.Duration(n.Duration))
	}
	_, err := fmt.Fprintf(a.stdout, "\nthe first record, what is learned in ⟦…⟧:\n%s\n", printable(r.Sample))
	return err
}
