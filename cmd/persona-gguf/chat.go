package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/internal/chat"
	"github.com/persona-gguf/persona-gguf/internal/progress"
)

// maxPrompt bounds a prompt from stdin; no context holds as much text.
const maxPrompt = 64 << 20

// chatFlags are flags that are not options of a session, or need reading before.
type chatFlags struct {
	model, prompt, templateFile, card string
	lora                              []string
	interactive, stats                bool
	seed                              int64
}

func (a *app) chat() *cobra.Command {
	o := chat.DefaultOptions()
	c := chatFlags{seed: -1}
	cmd := &cobra.Command{
		Use: "chat -m FILE", Short: "talk to a GGUF model",
		Long: "Chat answers one prompt, given with -p or on stdin, or holds a conversation when stdin is a terminal. It uses the\n" +
			"model's own chat template. Sampling flags have the names and defaults of Ollama's parameters.\n\n" + chatHelp,
		Args: arguments(0, 0, "none; the model comes with -m, the prompt with -p or on stdin"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.options(cmd, &o); err != nil {
				return err
			}
			interactive := c.interactive || !cmd.Flags().Changed("prompt") && progress.IsTerminal(a.stdin)
			if interactive && a.json {
				return badUsage(cmd, errors.New("json: got a conversation, want one prompt: give it with -p or on stdin"))
			}
			if !interactive {
				return a.ask(cmd, c, o)
			}
			return a.converse(cmd.Context(), c, o)
		},
	}
	c.define(cmd.Flags(), &o)
	return cmd
}

func (c *chatFlags) define(f *pflag.FlagSet, o *chat.Options) {
	f.SortFlags = false
	f.StringVarP(&c.model, "model", "m", "", "GGUF file")
	f.StringArrayVar(&c.lora, "lora", nil, "LoRA adapter in a GGUF file (convert --adapter-only), FILE or FILE=SCALE (repeatable)")
	f.StringVarP(&c.prompt, "prompt", "p", "", "prompt; without it stdin is the prompt, or a conversation if it is a terminal")
	f.BoolVarP(&c.interactive, "interactive", "i", false, "hold a conversation even if stdin is not a terminal: each line is a prompt")
	f.StringVar(&c.card, "persona", "", "persona card: its text, prompt format, stops and sampling, as in training; other flags come before it")
	f.StringVar(&o.System, "system", "", "system message")
	f.StringVar(&c.templateFile, "template", "", "file with a Jinja chat template to use in place of the model's")
	f.BoolVar(&o.Raw, "raw", false, "no chat template: the prompt goes in as it is")
	f.BoolVar(&o.Think, "think", o.Think, "let a thinking model think first")
	f.BoolVar(&c.stats, "stats", false, "print tokens per second to stderr after each reply")

	s := &o.Sampling
	f.Float32Var(&s.Temperature, "temperature", s.Temperature, "how free the choice is; 0 always takes the most probable token")
	f.IntVar(&s.TopK, "top-k", s.TopK, "choose among the k most probable tokens; 0 for all")
	f.Float32Var(&s.TopP, "top-p", s.TopP, "choose among the tokens that make up this probability")
	f.Float32Var(&s.MinP, "min-p", s.MinP, "least probability, relative to the most probable token")
	f.Float32Var(&s.TypicalP, "typical-p", s.TypicalP, "locally typical sampling; 1 is off")
	f.Float32Var(&s.RepeatPenalty, "repeat-penalty", s.RepeatPenalty, "penalty for repeating tokens; 1 is off")
	f.IntVar(&s.RepeatLastN, "repeat-last-n", s.RepeatLastN, "tokens that count as repeated; 0 is off, -1 the context")
	f.Float32Var(&s.PresencePenalty, "presence-penalty", s.PresencePenalty, "penalty for tokens that were there")
	f.Float32Var(&s.FrequencyPenalty, "frequency-penalty", s.FrequencyPenalty, "penalty for each time that a token was there")
	f.BoolVar(&s.PenalizeNewline, "penalize-newline", s.PenalizeNewline, "let penalties count for line ends too")
	f.IntVar(&s.Mirostat, "mirostat", s.Mirostat, "1 or 2: mirostat sampling; 0 is off")
	f.Float32Var(&s.MirostatTau, "mirostat-tau", s.MirostatTau, "mirostat's target surprise")
	f.Float32Var(&s.MirostatEta, "mirostat-eta", s.MirostatEta, "mirostat's learning rate")
	f.Int64Var(&c.seed, "seed", c.seed, "seed of the random numbers; -1 draws one")
	f.StringArrayVar(&o.Stop, "stop", nil, "text that ends a reply (repeatable)")
	f.IntVar(&o.NumPredict, "num-predict", o.NumPredict, "tokens of a reply; -1 for no limit")
	f.IntVar(&o.NumCtx, "num-ctx", o.NumCtx, fmt.Sprintf("tokens of the context (default: %d, or what the model was trained for if less)", chat.DefaultContext))
	f.IntVar(&o.NumBatch, "num-batch", o.NumBatch, "tokens of the prompt decoded at once")
	f.IntVarP(&o.Threads, "threads", "t", 0, "CPU threads (default: one per core; also --num-thread)")
	f.IntVarP(&o.GPULayers, "gpu-layers", "g", o.GPULayers, "layers on the GPU; -1 for all (also --num-gpu)")
	f.IntVar(&o.MainGPU, "main-gpu", 0, "GPU for what is not spread over all")
	f.BoolVar(&o.NoMMap, "no-mmap", false, "read the model instead of mapping it")
}

// options reads what needs reading; mistakes are usage errors.
func (c *chatFlags) options(cmd *cobra.Command, o *chat.Options) error {
	if c.model == "" {
		return badUsage(cmd, errors.New("model: got none, want a GGUF file with -m"))
	}
	if c.seed < -1 || c.seed > math.MaxUint32 {
		return badUsage(cmd, fmt.Errorf("seed: got %d, want -1 to %d", c.seed, uint32(math.MaxUint32)))
	}
	for _, s := range c.lora {
		path, scale := splitWeight(s)
		if path == "" || math.IsNaN(scale) || math.IsInf(scale, 0) {
			return badUsage(cmd, fmt.Errorf("lora: got %q, want FILE or FILE=SCALE", s))
		}
		o.Adapters = append(o.Adapters, chat.Adapter{Path: path, Scale: float32(scale)})
	}
	o.Sampling.Seed = llama.RandomSeed
	if c.seed >= 0 {
		o.Sampling.Seed = uint32(c.seed)
	}
	if o.Raw && (o.System != "" || c.templateFile != "") {
		return badUsage(cmd, errors.New("raw: got a system message or a template, want none of them"))
	}
	if c.templateFile != "" {
		text, err := os.ReadFile(c.templateFile)
		if err != nil {
			return fmt.Errorf("chat template: %w", err)
		}
		if strings.TrimSpace(string(text)) == "" {
			return fmt.Errorf("chat template %s: got an empty file, want a Jinja template", c.templateFile)
		}
		o.Template = string(text)
	}
	if c.card != "" {
		if err := c.character(cmd, o); err != nil {
			return err
		}
	}
	return badUsage(cmd, o.Check())
}

// character sets what the persona card says and no flag does.
func (c *chatFlags) character(cmd *cobra.Command, o *chat.Options) error {
	if o.Raw {
		return badUsage(cmd, errors.New("raw: got a persona card, want none"))
	}
	spec, err := (&specFlags{model: c.model, card: c.card, client: string(deploy.Chat)}).spec(cmd)
	if err != nil {
		return err
	}
	if o.Template == "" {
		if o.Template, err = spec.Jinja(); err != nil {
			return err
		}
	}
	o.Stop = append(o.Stop, spec.Renderer().Stops()...)
	card := spec.Card.Sampling
	for flag, set := range map[string]func(){
		"system":         func() { o.System = spec.System },
		"temperature":    func() { o.Sampling.Temperature = float32(card.Temperature) },
		"top-k":          func() { o.Sampling.TopK = card.TopK },
		"top-p":          func() { o.Sampling.TopP = float32(card.TopP) },
		"repeat-penalty": func() { o.Sampling.RepeatPenalty = float32(card.RepeatPenalty) },
		"repeat-last-n":  func() { o.Sampling.RepeatLastN = card.RepeatLastN },
		"num-predict":    func() { o.NumPredict = card.NumPredict },
		"num-ctx":        func() { o.NumCtx = card.NumCtx },
	} {
		if !cmd.Flags().Changed(flag) {
			set()
		}
	}
	return nil
}

// ask answers one prompt.
func (a *app) ask(cmd *cobra.Command, c chatFlags, o chat.Options) error {
	prompt := c.prompt
	if !cmd.Flags().Changed("prompt") {
		text, err := io.ReadAll(io.LimitReader(a.stdin, maxPrompt+1))
		if err != nil {
			return fmt.Errorf("read the prompt: %w", err)
		}
		if len(text) > maxPrompt {
			return fmt.Errorf("read the prompt: got more than %d bytes, want at most that", maxPrompt)
		}
		prompt = strings.TrimRight(string(text), "\r\n")
	}
	if prompt == "" {
		return badUsage(cmd, errors.New("prompt: got an empty one, want text with -p or on stdin"))
	}
	s, err := a.openChat(cmd.Context(), c, o)
	if err != nil {
		return err
	}
	defer s.Close()
	if a.json {
		reply, err := s.Say(cmd.Context(), prompt, nil)
		if err != nil {
			return err
		}
		return a.printJSON(reply)
	}
	reply, err := s.Say(cmd.Context(), prompt, a.stream)
	if reply.EvalCount > 0 {
		fmt.Fprintln(a.stdout)
	}
	if err != nil {
		return err
	}
	a.comment(c, s, reply)
	return nil
}

// openChat loads the model, with a bar when that takes long.
func (a *app) openChat(ctx context.Context, c chatFlags, o chat.Options) (*chat.Session, error) {
	set, stop := a.stderr.progress("load")
	defer stop()
	o.Progress = set
	return chat.Open(ctx, c.model, o)
}

// stream prints a piece of a reply as it comes. When nobody reads any more, the system ends the program.
func (a *app) stream(piece string) { io.WriteString(a.stdout, piece) }

// comment says on stderr what the reply itself does not say.
func (a *app) comment(c chatFlags, s *chat.Session, r chat.Reply) {
	if r.DoneReason == "context" {
		slog.Warn(fmt.Sprintf("the reply is cut off: the context of %d tokens is full; --num-ctx makes it longer", s.NumCtx()))
	}
	if r.Message.Content == "" {
		slog.Debug("the reply is empty: the model ended it at once")
	}
	if !c.stats && !a.verbose {
		return
	}
	fmt.Fprintf(a.stderr, "prompt: %d tokens (%d more were cached), %.1f tokens/s; reply: %d tokens, %.1f tokens/s, first after %d ms; load: %d ms; ended by %s\n",
		r.PromptEvalCount, r.PromptCacheCount, r.PromptRate(), r.EvalCount, r.Rate(), r.FirstTokenDuration.Milliseconds(), r.LoadDuration.Milliseconds(), r.DoneReason)
}
