package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/envconfig"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/deploy/vtuber"
	"github.com/persona-gguf/persona-gguf/persona"
)

const vtuberHelp = `Vtuber sets a character up in a folder of Open-LLM-VTuber (conf_version v1.1 to v1.2.x): it writes characters/ID.yaml, or edits it if
it is there, and with --conf conf.yaml too. Values are replaced where they stand; comments, order, quoting and every other byte
stay. The old file is kept as FILE.backup. Files of another layout are refused.`

// errVTuber is the result of a check that found something.
var errVTuber = errors.New("the configuration does not fit the persona")

// mcpServers are those of Open-LLM-VTuber's default configuration.
var mcpServers = []string{"time", "ddg-search"}

// vtuberFlags are those of the command and of those under it.
type vtuberFlags struct {
	dir, card, client string
	mcp, dryRun, list bool
	servers           []string
	temperature       float64
}

func (a *app) vtuber() *cobra.Command {
	var v vtuberFlags
	var s vtuber.Settings
	cmd := &cobra.Command{
		Use: "vtuber --persona CARD --model NAME [--dir DIR]", Short: "set a character up in Open-LLM-VTuber", Long: vtuberHelp,
		Args: arguments(0, 0, "none, or a command: switch, check"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if v.list {
				return a.listCharacters(v.dir)
			}
			return a.setCharacter(cmd, v, s)
		},
	}
	cmd.PersistentFlags().StringVar(&v.dir, "dir", ".", "folder of Open-LLM-VTuber, with conf.yaml")
	f := cmd.Flags()
	f.SortFlags = false
	v.defineDryRun(f)
	v.define(f)
	f.BoolVar(&v.list, "list", false, "list the characters")
	f.StringVar(&s.Model, "model", "", "name of the model at the Ollama server (see register)")
	f.StringVar(&s.BaseURL, "base-url", "", "address of the server's OpenAI-compatible API (default: as it is, or http://localhost:11434/v1)")
	f.Float64Var(&v.temperature, "temperature", 0, "temperature (default: the card's)")
	f.Lookup("temperature").DefValue = "0"
	f.StringSliceVar(&v.servers, "mcp-servers", nil, "tool servers to enable, for a model that was trained with tools")
	f.StringVar(&s.Label, "label", "", "conf_name, which the selector shows (default: as it is, or the character's name)")
	f.StringVar(&s.Live2D, "live2d", "", "live2d_model_name (default: as it is, or that of conf.yaml)")
	f.StringVar(&s.Avatar, "avatar", "", "avatar (default: as it is, or that of conf.yaml)")
	f.BoolVar(&s.Conf, "conf", false, "set conf.yaml too, with which the server starts")
	cmd.AddCommand(a.vtuberSwitch(&v), a.vtuberCheck(&v))
	return cmd
}

func (v *vtuberFlags) defineDryRun(f *pflag.FlagSet) {
	f.BoolVar(&v.dryRun, "dry-run", false, "print what would change as a unified diff, and write nothing")
}

func (v *vtuberFlags) define(f *pflag.FlagSet) {
	f.StringVar(&v.card, "persona", "", "persona card (YAML)")
	f.StringVar(&v.client, "client", string(deploy.Chat), "chat: the client sends messages; fork: it sends a finished prompt to /api/generate")
	f.BoolVar(&v.mcp, "mcp", false, "use tools: the servers "+strings.Join(mcpServers, " and "))
}

// read checks the flags and reads the card.
func (v *vtuberFlags) read(cmd *cobra.Command) (*persona.Card, error) {
	if v.card == "" {
		return nil, badUsage(cmd, errors.New("persona: got none, want a persona card with --persona"))
	}
	if v.client != string(deploy.Chat) && v.client != string(deploy.Fork) {
		return nil, badUsage(cmd, fmt.Errorf("client: got %q, want %s or %s", v.client, deploy.Chat, deploy.Fork))
	}
	return persona.Read(v.card)
}

func (a *app) setCharacter(cmd *cobra.Command, v vtuberFlags, s vtuber.Settings) error {
	var err error
	if s.Card, err = v.read(cmd); err != nil {
		return err
	}
	if s.Model == "" {
		return badUsage(cmd, errors.New("model: got none, want the name of the model at the Ollama server with --model"))
	}
	if cmd.Flags().Changed("temperature") {
		if !(v.temperature >= 0 && v.temperature <= 10) {
			return badUsage(cmd, fmt.Errorf("temperature: got %v, want 0 to 10", v.temperature))
		}
		s.Temperature = &v.temperature
	}
	s.MCPServers, s.Fork, s.DryRun = v.servers, v.client == string(deploy.Fork), v.dryRun
	if v.mcp {
		s.MCPServers = append(slices.Clone(mcpServers), v.servers...)
	}
	p, err := vtuber.Open(v.dir)
	if err != nil {
		return err
	}
	changes, err := p.Set(s)
	if err != nil {
		return err
	}
	return a.printChanges(changes, v.dryRun)
}

func (a *app) vtuberSwitch(v *vtuberFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "switch NAME", Short: "have the server start with another character",
		Long: "Switch puts what a character's file sets into conf.yaml, as the server does when a user chooses the character.\n" +
			"NAME is the file's name, its conf_name, conf_uid or character_name.",
		Args: arguments(1, 1, "the NAME of a character"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := vtuber.Open(v.dir)
			if err != nil {
				return err
			}
			changes, err := p.Switch(args[0], v.dryRun)
			if err != nil {
				return err
			}
			return a.printChanges(changes, v.dryRun)
		},
	}
	v.defineDryRun(cmd.Flags())
	return cmd
}

// printChanges prints a diff on a dry run, else what became of each file.
func (a *app) printChanges(changes []vtuber.Change, dryRun bool) error {
	if a.json {
		return a.printJSON(map[string]any{"dry_run": dryRun, "files": changes})
	}
	for _, c := range changes {
		text := c.File + ": nothing to change\n"
		switch {
		case dryRun && c.Changed:
			text = c.Diff
		case c.Backup != "":
			text = c.File + ": changed, the old text is in " + c.Backup + "\n"
		case c.Changed:
			text = c.File + ": written\n"
		}
		if _, err := fmt.Fprint(a.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listCharacters(dir string) error {
	p, err := vtuber.Open(dir)
	if err != nil {
		return err
	}
	characters, err := p.Characters()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"conf_version": p.Version, "characters": characters})
	}
	t := newTable(a.stdout)
	t.row("", "file", "conf_name", "character_name", "model", "persona")
	for _, c := range characters {
		mark := ""
		if c.Active {
			mark = "*"
		}
		t.row(mark, c.File, c.Label, c.Name, c.Model, c.Persona[:12])
	}
	return t.Flush()
}

func (a *app) vtuberCheck(v *vtuberFlags) *cobra.Command {
	var o vtuber.CheckOptions
	var ask bool
	cmd := &cobra.Command{
		Use: "check --persona CARD", Short: "compare the persona everywhere, and look for what the front end needs",
		Long: "Check compares the card's persona with the configurations of the character and, if they are named, with a Modelfile, with\n" +
			"SFT records and with the model of the Ollama server, and looks for the Live2D model and the avatar. Exit status 1 if something is wrong.",
		Args: arguments(0, 0, "none; everything is a flag"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Card, err = v.read(cmd); err != nil {
				return err
			}
			o.MCP, o.Fork = v.mcp, v.client == string(deploy.Fork)
			if ask {
				o.Client = api.NewClient(envconfig.Host(), http.DefaultClient)
			}
			p, err := vtuber.Open(v.dir)
			if err != nil {
				return err
			}
			found, err := p.Check(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.printFindings(found)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	v.define(f)
	f.StringVar(&o.Modelfile, "modelfile", "", "Modelfile to look at")
	f.StringVar(&o.Data, "data", "", "JSONL file of SFT records to look at")
	f.BoolVar(&ask, "ollama", false, "look at the models of the Ollama server (OLLAMA_HOST)")
	return cmd
}

func (a *app) printFindings(found []vtuber.Finding) error {
	wrong := 0
	t := newTable(a.stdout)
	for _, f := range found {
		mark, text := "ok", shortHash(f.Got)
		if !f.OK {
			wrong++
			mark, text = "WRONG", "got "+shortHash(f.Got)+", want "+shortHash(f.Want)
		}
		t.row(mark, f.Place, f.What, text)
	}
	var err error
	if a.json {
		err = a.printJSON(map[string]any{"ok": wrong == 0, "findings": found})
	} else {
		err = t.Flush()
	}
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%w: %d of %d are wrong", errVTuber, wrong, len(found))
	}
	return err
}

// shortHash shortens a SHA-256, and nothing else.
func shortHash(s string) string {
	if len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" {
		return s[:12]
	}
	return s
}
