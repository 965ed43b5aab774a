package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/pipeline"
)

func (a *app) provenance() *cobra.Command {
	var set, setScores string
	cmd := &cobra.Command{
		Use: "provenance FILE.gguf", Short: "show or set where a model comes from",
		Long: "Provenance shows the persona.* keys of a GGUF file: card, records, adapter, base, trainer and scores. With --set or --set-scores it\n" +
			"writes keys from a JSON object first: the metadata are written anew, every tensor's bytes stay, and the file is whole at any time.",
		Args: arguments(1, 1, "one FILE.gguf"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var keys []gguf.KV
			for _, from := range []struct{ file, prefix string }{{set, ""}, {setScores, "scores"}} {
				if from.file == "" {
					continue
				}
				read, err := pipeline.ReadOrigin(from.file, from.prefix)
				if err != nil {
					return err
				}
				keys = append(keys, read...)
			}
			if len(keys) > 0 {
				progress, stop := a.stderr.progress("provenance")
				defer stop()
				if _, err := pipeline.SetOrigin(cmd.Context(), args[0], keys, progress); err != nil {
					return err
				}
				stop()
			}
			return a.printOrigin(args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&set, "set", "", "JSON file with an object of keys to write; persona. is put before them")
	f.StringVar(&setScores, "set-scores", "", "JSON file with an object of scores to write, as persona.scores.*; old scores go")
	return cmd
}

func (a *app) printOrigin(path string) error {
	keys, err := pipeline.Origin(path)
	if err != nil {
		return err
	}
	if a.json {
		object := map[string]any{}
		for _, kv := range keys {
			object[kv.Key] = kv.Value
		}
		return a.printJSON(map[string]any{"path": path, "keys": object})
	}
	if len(keys) == 0 {
		_, err := fmt.Fprintf(a.stdout, "%s has no keys of provenance\n", printable(path))
		return err
	}
	t := newTable(a.stdout)
	for _, kv := range keys {
		t.row(kv.Key, fmt.Sprint(kv.Value))
	}
	return t.Flush()
}

// originFlags say what convert writes into the file besides the reference's keys.
type originFlags struct{ from string }

// keys gives the keys: of a file, or what the adapters' folders tell.
func (o *originFlags) keys(adapters []string) ([]gguf.KV, error) {
	switch {
	case o.from == "":
		return nil, nil
	case o.from != "auto":
		return pipeline.ReadOrigin(o.from, "")
	case len(adapters) != 1:
		return nil, fmt.Errorf("%w: auto: got %d adapters, want one that 'train' has made", pipeline.ErrProvenance, len(adapters))
	}
	keys, err := pipeline.AdapterOrigin(adapters[0], version)
	if errors.Is(err, pipeline.ErrProvenance) {
		return nil, fmt.Errorf("adapter %s: %w", adapters[0], err)
	}
	return keys, err
}
