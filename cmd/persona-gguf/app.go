package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	llama "github.com/go-skynet/go-llama.cpp"
)

// app is what every command shares.
type app struct {
	stdin          *os.File
	stdout         io.Writer
	stderr         *console
	json, verbose  bool
	stdoutTerminal bool
}

func newApp(stdin, stdout, stderr *os.File) *app {
	return &app{stdin: stdin, stdout: stdout, stderr: &console{w: stderr}}
}

const about = `persona-gguf turns Hugging Face model folders into GGUF files, quantizes them, and runs them with the
llama.cpp inside it. Flags may be written with _ in place of -.`

// root is the command that the others hang on.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "persona-gguf", Short: "make, inspect, measure, serve and talk to GGUF models", Long: about,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			err := fmt.Errorf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				err = fmt.Errorf("unknown command %q: did you mean %q?", args[0], near[0])
			}
			return &usageError{err, cmd.CommandPath()}
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{fmt.Errorf("no command"), cmd.CommandPath()}
		},
		PersistentPreRun: func(*cobra.Command, []string) { a.startLog() },
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{err, cmd.CommandPath()} })
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print the result as one JSON object")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log more, llama.cpp's own log too, to stderr")
	root.PersistentFlags().SortFlags = false
	root.AddCommand(a.convert(), a.merge(), a.quantize(), a.inspect(), a.chat(), a.bench(), a.init(), a.parse(), a.prepare(), a.check(), a.train(), a.eval(), a.imatrix(), a.modelfile(), a.register(), a.vtuber(), a.gen(), a.run(), a.provenance(), a.doctor(), a.version())
	root.SetGlobalNormalizationFunc(normalize)
	setHelp(root)
	return root
}

// startLog sends the log to stderr; of llama.cpp's only with --verbose.
func (a *app) startLog() {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
		llama.SetLogger(func(_ int, text string) { io.WriteString(a.stderr, text) })
	}
	slog.SetDefault(slog.New(&lineHandler{w: a.stderr, level: level}))
}

// arguments makes a usage error of a wrong number of arguments; names are shown in it.
func arguments(min, max int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < min || len(args) > max {
			return &usageError{fmt.Errorf("arguments: got %d, want %s", len(args), names), cmd.CommandPath()}
		}
		return nil
	}
}

// badUsage marks err, if there is one, as a mistake on the command line.
func badUsage(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err, cmd.CommandPath()}
}

// aliases are other tools' names of flags.
var aliases = map[string]string{
	"num-thread": "threads", "nthreads": "threads",
	"num-gpu": "gpu-layers", "n-gpu-layers": "gpu-layers",
	"temp": "temperature",
}

// normalize lets _ stand for - in the names of flags.
func normalize(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	name = strings.ReplaceAll(name, "_", "-")
	if alias, ok := aliases[name]; ok {
		name = alias
	}
	return pflag.NormalizedName(name)
}

// shortFlags are llama-bench's flags of several letters behind one dash, which pflag would take for several
// flags.
var shortFlags = map[string]string{"-pg": "--pg", "-ub": "--ubatch-size", "-ngl": "--gpu-layers"}

// expandShort rewrites them in the arguments of bench.
func expandShort(args []string) []string {
	if len(args) == 0 || args[0] != "bench" {
		return args
	}
	out := make([]string, len(args))
	for i, arg := range args {
		name, value, cut := strings.Cut(arg, "=")
		if long, ok := shortFlags[name]; ok {
			if arg = long; cut {
				arg += "=" + value
			}
		}
		out[i] = arg
	}
	return out
}

// printJSON prints the result of a command as one JSON object.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printable replaces what would control the terminal, since names in it may come from a hostile file.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// table aligns columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(cells ...string) { fmt.Fprintln(t, printable(strings.Join(cells, "\t"))) }
