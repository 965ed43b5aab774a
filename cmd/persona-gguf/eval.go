package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/ollama/ollama/envconfig"
	"github.com/spf13/cobra"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/eval"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

const evalHelp = `Eval interviews a persona model: who it is in many words, first and in later turns, facts of the card, conversations that try to
make it somebody else, things it cannot know, and the probe set of 17 questions. Rules decide about every reply; each score
has its numerator, denominator, 95 % interval and the replies that speak against the character. Besides, without sampling:
how much more likely the persona's answers are than an assistant's, the loss on held-out records (--data), and with several
files how far each is from the first. The prompts are those of training and serving. --gate ends with status 1 below the
card's limits and names the first file that fails.`

// evalFlags are the flags of eval that are no options of the package.
type evalFlags struct {
	models                                     []string
	card, data, through, host, questions, html string
	seed                                       uint32
	gate                                       bool
}

func (a *app) eval() *cobra.Command {
	var e evalFlags
	o := eval.Options{Parallel: 8, GPULayers: -1, Seed: 1, Program: version}
	cmd := &cobra.Command{
		Use: "eval -m FILE[,FILE…] --persona CARD", Short: "interview a persona model", Long: evalHelp,
		Args: arguments(0, 0, "none; files are given with -m"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.read(cmd, &o); err != nil {
				return err
			}
			stop, stage := func() {}, ""
			var set func(done, total int64, detail string)
			defer func() { stop() }()
			o.Progress = func(now string, done, total int64) {
				if now != stage {
					stop()
					stage = now
					set, stop = a.stderr.steps(now)
				}
				set(done, total, "conversations")
			}
			report, err := eval.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			stop()
			if e.html != "" {
				if err := atomicfile.WriteFile(e.html, report.WriteHTML); err != nil {
					return err
				}
			}
			if err := a.printEval(report, e.html); err != nil {
				return err
			}
			if e.gate {
				return report.Passed()
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVarP(&e.models, "model", "m", nil, "GGUF files, the unquantized one first")
	f.StringVar(&e.card, "persona", "", "persona card")
	f.StringVar(&o.Base, "base", "", "GGUF file of the base: the margin is measured against its answers")
	f.StringVar(&e.data, "data", "", "SFT records: those of the split eval are measured on")
	f.StringVar(&e.through, "through", "", "interview a model of a server too: ollama:NAME")
	f.StringVar(&e.host, "host", "", "address of the Ollama server (default: OLLAMA_HOST)")
	f.StringVar(&e.questions, "questions", "", "interview file with further questions, or (for_multiturn) goals of an interviewer")
	f.StringVar(&o.Interviewer, "interviewer", "", "model of the server that asks towards such goals, five turns each")
	f.IntVar(&o.Samples, "samples", 0, "further interviews with the card's sampling, each with another seed")
	f.Uint32Var(&o.Seed, "seed", o.Seed, "first seed")
	f.IntVar(&o.Parallel, "parallel", o.Parallel, "conversations at the same time")
	f.IntVarP(&o.Threads, "threads", "t", 0, "threads (default: the physical cores)")
	f.IntVar(&o.GPULayers, "gpu-layers", o.GPULayers, "layers on the GPU; -1: all, if there is one")
	f.StringVar(&o.End, "end", "", "end token of utterances, if it is not the usual one of the card's format")
	f.StringVar(&o.Judge, "judge", "", "have a model of the server score replies from 1 to 7")
	f.StringVar(&e.html, "html", "", "write the report as a web page with plots to this file")
	f.BoolVar(&e.gate, "gate", false, "end with status 1 if a gate of the card is not passed")
	return cmd
}

// read checks the flags and reads the files that they name.
func (e *evalFlags) read(cmd *cobra.Command, o *eval.Options) error {
	name, through := strings.CutPrefix(e.through, "ollama:")
	switch {
	case len(e.models) == 0 && e.through == "":
		return badUsage(cmd, errors.New("model: got none, want GGUF files with -m, or --through ollama:NAME"))
	case e.card == "":
		return badUsage(cmd, errors.New("persona: got none, want a persona card with --persona"))
	case e.through != "" && (!through || name == ""):
		return badUsage(cmd, fmt.Errorf("through: got %q, want ollama:NAME", e.through))
	case o.Samples < 0:
		return badUsage(cmd, fmt.Errorf("samples: got %d, want 0 or more", o.Samples))
	case o.Parallel < 1 || o.Parallel > llama.MaxSequences():
		return badUsage(cmd, fmt.Errorf("parallel: got %d, want 1 to %d", o.Parallel, llama.MaxSequences()))
	}
	o.Models, o.CardPath, o.DataPath, o.Through = e.models, e.card, e.data, name
	var err error
	if o.Server, err = serverOf(e.host); err != nil {
		return badUsage(cmd, err)
	}
	if o.Card, err = persona.Read(e.card); err != nil {
		return err
	}
	if o.Profile, err = profileOf(o.Card, "."); err != nil {
		return err
	}
	if e.questions != "" {
		if o.Questions, err = eval.ReadQuestions(e.questions); err != nil {
			return err
		}
		if o.Questions[0].Kind == eval.Goal && o.Interviewer == "" {
			return badUsage(cmd, fmt.Errorf("questions: %s has goals of an interviewer: name a model of the Ollama server with --interviewer", e.questions))
		}
	}
	if e.data != "" {
		o.Records, _, err = persona.ReadRecords(e.data, persona.ReadOptions{})
	}
	return err
}

// serverOf is the address that is given, or that of OLLAMA_HOST.
func serverOf(host string) (*url.URL, error) {
	if host == "" {
		return envconfig.Host(), nil
	}
	if !strings.Contains(host, "://") {
		host = "http://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("host: got %q, want an address like http://127.0.0.1:11434", host)
	}
	return u, nil
}

func (a *app) printEval(r *eval.Report, html string) error {
	if a.json {
		return a.printJSON(r)
	}
	for i := range r.Files {
		if err := a.printFile(&r.Files[i]); err != nil {
			return err
		}
	}
	if len(r.Drift) > 0 {
		if err := a.printDrift(r); err != nil {
			return err
		}
	}
	if p := r.Pairs; p != nil {
		fmt.Fprintf(a.stdout, "judge %s: %s better %d times, %s %d times, the same in both orders %d of %d, unscored %d\n\n",
			printable(p.Model), printable(p.First), p.FirstWins, printable(p.Second), p.Wins, p.Agreement.N, p.Agreement.Of, p.Unscored)
	}
	if r.LostAt != "" {
		fmt.Fprintf(a.stdout, "the persona is lost at %s\n", printable(r.LostAt))
	}
	if html != "" {
		fmt.Fprintf(a.stdout, "report: %s\n", printable(html))
	}
	return nil
}

func (a *app) printFile(f *eval.FileReport) error {
	where := "in this process"
	if f.Through != "" {
		where = "through " + f.Through
	}
	fmt.Fprintf(a.stdout, "%s (%s)\n", printable(f.Label), printable(where))
	gates := map[string]eval.Gate{}
	for _, g := range f.Gates {
		gates[g.Name] = g
	}
	t := newTable(a.stdout)
	t.row("score", "count", "of", "share", "95 %", "want", "", "against")
	printScores(t, f.Scores, gates)
	if len(f.Sampled) > 0 {
		t.row("with the card's sampling:")
		printScores(t, f.Sampled, nil)
	}
	t.row("")
	t.row("mean", "", "", "value", "95 %")
	for _, m := range f.Means {
		t.row(m.Name, "", fmt.Sprint(m.Count), fmt.Sprintf("%.2f", m.Mean), fmt.Sprintf("%.2f – %.2f", m.Low, m.High))
	}
	if m := f.Margin; m != nil {
		t.row("margin, "+m.Mean.Unit, fmt.Sprintf("%d positive", m.Positive.N), fmt.Sprint(m.Mean.Count), fmt.Sprintf("%+.3f", m.Mean.Mean), fmt.Sprintf("%.3f – %.3f", m.Mean.Low, m.Mean.High))
	}
	if l := f.Loss; l != nil {
		t.row("held-out loss", "", fmt.Sprintf("%d tokens", l.Tokens), fmt.Sprintf("%.4f", l.Loss), fmt.Sprintf("± %.4f", l.StdErr), fmt.Sprintf("perplexity %.3f", l.Perplexity))
	}
	if j := f.Judged; j != nil {
		for _, d := range j.Dimensions {
			t.row("judged "+d.Name, fmt.Sprintf("%d unscored", d.Unscored), fmt.Sprint(d.Score.Count), fmt.Sprintf("%.2f", d.Score.Mean), fmt.Sprintf("%.2f – %.2f", d.Score.Low, d.Score.High))
		}
	}
	t.row("")
	if err := t.Flush(); err != nil {
		return err
	}
	return nil
}

// mostAgainst is the number of probes that a line of the table names.
const mostAgainst = 6

func printScores(t table, scores []eval.Score, gates map[string]eval.Gate) {
	for _, s := range scores {
		want, verdict := "", ""
		if g, ok := gates[s.Name]; ok {
			want, verdict = "≤ "+fmt.Sprintf("%.4g", g.Want), "FAILED"
			if g.AtLeast {
				want = "≥ " + fmt.Sprintf("%.4g", g.Want)
			}
			if g.OK {
				verdict = "ok"
			}
		}
		var against []string
		for i, f := range s.Failures {
			if i == mostAgainst {
				against = append(against, "…")
				break
			}
			against = append(against, fmt.Sprintf("%s.%d", f.Probe, f.Turn))
		}
		t.row(s.Name, fmt.Sprint(s.N), plural(s.Of, s.Unit), fmt.Sprintf("%.2f%%", 100*s.Share),
			fmt.Sprintf("%.1f – %.1f", 100*s.Low, 100*s.High), want, verdict, strings.Join(against, " "))
	}
}

// plural counts things of an interview.
func plural(n int, unit string) string {
	switch {
	case n == 1:
		return "1 " + unit
	case strings.HasSuffix(unit, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(unit, "y"))
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// printDrift shows how far each file is from the first.
func (a *app) printDrift(r *eval.Report) error {
	t := newTable(a.stdout)
	t.row("drift from "+r.Drift[0].Reference, "KLD", "± ", "99 %", "same top", "loss", "scores that changed by a point or more")
	for _, d := range r.Drift {
		var changed []string
		for _, c := range d.Changes {
			if diff := 100 * (c.To - c.From); diff >= 1 || diff <= -1 {
				changed = append(changed, fmt.Sprintf("%s %+.1f", c.Name, diff))
			}
		}
		if d.Tokens == 0 {
			t.row(d.File, "", "", "", "", "", strings.Join(changed, ", "))
			continue
		}
		t.row(d.File, fmt.Sprintf("%.5f", d.KLD), fmt.Sprintf("%.5f", d.StdErr), fmt.Sprintf("%.4f", d.Q99), fmt.Sprintf("%.2f%%", 100*d.SameTop.Share), fmt.Sprintf("%+.4f", d.LogRatio), strings.Join(changed, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(a.stdout, "\n")
	return err
}
