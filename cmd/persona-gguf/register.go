package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"

	"github.com/ollama/ollama/envconfig"
	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

const registerHelp = `Register makes a model of a running Ollama server (OLLAMA_HOST) from a GGUF file and a persona card. The file is uploaded unless the
server has it. The model is created under a name of its own, read back, and asked to render a conversation; only when all of
that is what it should be it gets NAME, and a model that had the name goes. A failed or interrupted command changes nothing.`

func (a *app) register() *cobra.Command {
	var s specFlags
	var o deploy.RegisterOptions
	cmd := &cobra.Command{
		Use: "register NAME -m FILE --persona CARD", Short: "make a model of an Ollama server", Long: registerHelp,
		Args: arguments(1, 1, "the NAME of the model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := s.spec(cmd)
			if err != nil {
				return err
			}
			o.Server, o.Models = envconfig.Host(), modelFolder(envconfig.Host())
			o.Status = func(line string) { slog.Debug(line) }
			stop, stage := func() {}, ""
			var set func(done, total int64)
			defer func() { stop() }()
			o.Progress = func(now string, done, total int64) {
				if now != stage {
					stop()
					stage = now
					set, stop = a.stderr.progress(now)
				}
				set(done, total)
			}
			result, err := spec.Register(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			stop()
			return a.printRegistered(result)
		},
	}
	s.define(cmd.Flags())
	cmd.Flags().BoolVar(&o.KeepOld, "keep-old", false, "keep the model that had the name, as NAME:TAG-old")
	cmd.Flags().StringVar(&o.SHA256, "sha256", "", "refuse the file unless it has this hash")
	cmd.Flags().BoolVar(&o.NoProbe, "no-probe", false, "do not load the model to see what it renders")
	return cmd
}

// modelFolder is where a server on this machine has its models, as far as this user's environment says.
func modelFolder(server *url.URL) string {
	if _, err := os.UserHomeDir(); err != nil { // else Ollama's own function panics
		return ""
	}
	if ip := net.ParseIP(server.Hostname()); server.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		return envconfig.Models()
	}
	return ""
}

func (a *app) printRegistered(r *deploy.Registered) error {
	if a.json {
		return a.printJSON(r)
	}
	what := "new"
	if r.Replaced {
		what = "replaced"
	}
	if r.Old != "" {
		what = "the old one is " + r.Old
	}
	upload := "uploaded"
	if !r.Uploaded {
		upload = "the server had it"
	}
	_, err := fmt.Fprintf(a.stdout, "%s\n%s, %s: %s, %s, Ollama %s at %s, in %s\n", r.Name, what, unit.Bytes(r.Size), upload, r.Digest[:19], r.Version, r.Server, unit.Duration(r.Duration))
	return err
}
