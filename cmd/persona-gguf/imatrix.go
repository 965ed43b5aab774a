package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/eval"
	"github.com/persona-gguf/persona-gguf/persona"
)

const imatrixHelp = `Imatrix makes an importance matrix from the persona's own dialogues: SFT records go through the model as they do in training,
prompt and all, and what each weight matrix is multiplied with is added up. Held-out records are not used. quantize --imatrix
and llama-quantize read the file.`

func (a *app) imatrix() *cobra.Command {
	o := eval.ImatrixOptions{GPULayers: -1}
	cmd := &cobra.Command{
		Use: "imatrix -m FILE --data SFT.jsonl -o OUT", Short: "make an importance matrix from SFT records", Long: imatrixHelp,
		Args: arguments(0, 0, "none; files are given with flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.Model == "":
				return badUsage(cmd, errors.New("model: got none, want a GGUF file with -m"))
			case o.Data == "":
				return badUsage(cmd, errors.New("data: got none, want SFT records with --data"))
			case o.Out == "":
				return badUsage(cmd, errors.New("out: got none, want a file with -o"))
			case o.Chunks < 0:
				return badUsage(cmd, fmt.Errorf("chunks: got %d, want 0 or more", o.Chunks))
			}
			var err error
			if o.Records, _, err = persona.ReadRecords(o.Data, persona.ReadOptions{}); err != nil {
				return err
			}
			set, stop := a.stderr.steps("imatrix")
			o.Progress = func(done, total int64) { set(done, total, "records") }
			result, err := eval.MakeImatrix(cmd.Context(), o)
			stop()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(result)
			}
			_, err = fmt.Fprintf(a.stdout, "%s\n%d tensors from %d tokens of %d records\n", printable(result.Out), result.Tensors, result.Tokens, result.Records)
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.Model, "model", "m", "", "GGUF file, unquantized")
	f.StringVar(&o.Data, "data", "", "SFT records")
	f.StringVarP(&o.Out, "out", "o", "", "file of the importance matrix")
	f.IntVar(&o.Chunks, "chunks", 0, fmt.Sprintf("most chunks of %d tokens (default: all records)", eval.ChunkTokens))
	f.IntVarP(&o.Threads, "threads", "t", 0, "threads (default: the physical cores)")
	f.IntVar(&o.GPULayers, "gpu-layers", o.GPULayers, "layers on the GPU; -1: all, if there is one")
	return cmd
}
