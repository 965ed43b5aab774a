package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/persona"
)

const parseHelp = `Parse reads what a generator wrote, free text or JSON, in all the shapes that are in use, and writes it as one array to
processed/DATE/ under --root, with a report beside it (.report.json): what was read, what was kept, and of everything that
was left out the file, the row and the reason. Without FILE all raw files of the character under result/ are read. Raw files
are never changed, and no text is invented.`

// dataFlags are what parse, prepare and check have in common.
type dataFlags struct{ root, character, card string }

func (d *dataFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&d.card, "persona", "", "persona card (also --card)")
	f.StringVar(&d.card, "card", "", "")
	f.StringVar(&d.root, "root", ".", "folder with result/ and processed/")
	f.StringVar(&d.character, "character", "", "slug of the character in file names (default: the card's id)")
	f.Lookup("card").Hidden = true
}

// read reads the card.
func (d *dataFlags) read(cmd *cobra.Command) (*persona.Card, error) {
	if d.card == "" {
		return nil, badUsage(cmd, fmt.Errorf("persona: got none, want a persona card with --persona"))
	}
	c, err := persona.Read(d.card)
	if err != nil {
		return nil, err
	}
	if d.character == "" {
		d.character = c.ID
	}
	if d.character != c.ID {
		return nil, fmt.Errorf("persona card %s: id: got %s, want %s as --character says", d.card, c.ID, d.character)
	}
	return c, nil
}

func (a *app) parse() *cobra.Command {
	cmd := &cobra.Command{
		Use: "parse scene|dialogue", Short: "read generated scenes or dialogues", Long: parseHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			return badUsage(cmd, fmt.Errorf("what to parse: got %s, want scene or dialogue", quotedOrNone(args)))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.parseKind("scene", parse.Scenes), a.parseKind("dialogue", parse.Dialogues))
	return cmd
}

func quotedOrNone(args []string) string {
	if len(args) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%q", args[0])
}

func (a *app) parseKind(what string, run func(context.Context, parse.Options) (*parse.Report, error)) *cobra.Command {
	var d dataFlags
	o := parse.Options{Now: time.Now()}
	cmd := &cobra.Command{
		Use: "parse " + what + " [FILE…] --persona CARD", Short: "read generated " + what + "s", Long: parseHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(o.MinYield >= 0 && o.MinYield <= 1) {
				return badUsage(cmd, fmt.Errorf("min-yield: got %v, want a share, 0 to 1", o.MinYield))
			}
			if o.Kind != "" && o.Kind != "protective" && o.Kind != "dialogue" {
				return badUsage(cmd, fmt.Errorf("kind: got %q, want dialogue or protective", o.Kind))
			}
			if o.Kind == "dialogue" {
				o.Kind = ""
			}
			card, err := d.read(cmd)
			if err != nil {
				return err
			}
			o.Card, o.Root, o.Character, o.Files = card, d.root, d.character, args
			o.Warn = func(s string) { slog.Warn(s) }
			set, stop := a.stderr.progress("parse")
			defer stop()
			o.Progress = set
			report, err := run(cmd.Context(), o)
			stop()
			if report != nil {
				if e := a.printParsed(report, err == nil); err == nil {
					err = e
				}
			}
			return err
		},
	}
	cmd.Use = strings.TrimPrefix(cmd.Use, "parse ")
	d.define(cmd)
	cmd.Flags().Float64Var(&o.MinYield, "min-yield", 0, "fail, and write nothing, if a smaller share is kept (0 to 1)")
	if what == "dialogue" {
		cmd.Flags().StringVar(&o.Kind, "kind", "dialogue", "dialogue, or protective for gen_hallucination: what the character cannot know")
	}
	return cmd
}

// printParsed prints the report; its list of what was left out is in the file.
func (a *app) printParsed(r *parse.Report, written bool) error {
	if a.json {
		return a.printJSON(r)
	}
	out := r.Output
	if !written {
		out = "nothing written"
	}
	fmt.Fprintf(a.stdout, "%s\n%d of %d %ss kept, %.2f%%; %d rows in %d files\n", printable(out), r.Kept, r.Of, r.Unit, 100*r.Yield, r.Rows, len(r.Sources))
	if r.TurnsOf > 0 {
		fmt.Fprintf(a.stdout, "%d turns kept, of %d\n", r.Turns, r.TurnsOf)
	}
	fmt.Fprintf(a.stdout, "backgrounds: %.0f characters in the mean, %d at least\n", r.BackgroundMean, r.BackgroundMin)
	t := newTable(a.stdout)
	for _, part := range []struct {
		name   string
		counts map[string]int
	}{{"left out", r.Codes}, {"turns left out", r.TurnCodes}, {"noted", r.Notes}, {"types", r.Types}} {
		for _, code := range slices.Sorted(maps.Keys(part.counts)) {
			t.row(part.name, code, fmt.Sprint(part.counts[code]))
		}
	}
	return t.Flush()
}
