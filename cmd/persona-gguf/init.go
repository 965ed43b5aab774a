package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

func (a *app) init() *cobra.Command {
	var o persona.StartOptions
	var out string
	cmd := &cobra.Command{
		Use: "init NAME", Short: "write a commented persona card to start with",
		Long: "Init writes a persona card for the character NAME, every key with what it is for. A profile and a persona text in the\n" +
			"layout of the older scripts (data/seed_data under --root) are named in it and read in.",
		Args: arguments(1, 1, "the character's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			if out == "" {
				out = "persona.yaml"
			}
			if exists(out) {
				return fmt.Errorf("init %s: %w: want a new file", out, os.ErrExist)
			}
			text, err := persona.Start(o, out)
			if err != nil {
				return badUsage(cmd, err)
			}
			if err := atomicfile.WriteFile(out, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"path": out})
			}
			_, err = fmt.Fprintln(a.stdout, printable(out))
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&out, "out", "", "file to write (default persona.yaml)")
	f.StringVar(&o.ID, "id", "", "slug for file names: lower-case letters, digits and _ (default: made of NAME, or of --character)")
	f.StringVar(&o.ID, "character", "", "")
	f.StringVar(&o.Language, "language", "", "korean or english (default: by the letters of NAME)")
	f.StringVar(&o.Root, "root", ".", "folder with data/seed_data of the older scripts")
	f.Lookup("character").Hidden = true
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
