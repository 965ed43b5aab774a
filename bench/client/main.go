// Command client measures what the client of gen costs: dialogues through a real Ollama server by gen with N calls at
// once, then the very same requests by a plain loop with 1, 2, 4, … calls at once, and the two rates in tokens per second.
//
// It ends with a server that takes a fixed time for an answer, and how near gen comes to its rate.
//
//	go run ./bench/client -model model.gguf [-dialogues 200] [-parallel 4] [-rounds 3] [-host ADDRESS -name MODEL]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/gen"
	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/internal/ollama"
	"github.com/persona-gguf/persona-gguf/persona"
)

type options struct {
	model, host, name         string
	dialogues, parallel, seed int
	rounds, predict           int
	card                      *persona.Card
	dir                       string
}

func main() {
	var o options
	flag.StringVar(&o.model, "model", "", "GGUF file that a server of our own serves")
	flag.StringVar(&o.host, "host", "", "address of a server to take instead")
	flag.StringVar(&o.name, "name", "measured", "the model's name on the server")
	flag.IntVar(&o.dialogues, "dialogues", 200, "dialogues of a round")
	flag.IntVar(&o.parallel, "parallel", 4, "calls at once: of gen, and what the server works on")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds")
	flag.IntVar(&o.predict, "num-predict", 256, "tokens of an answer at most")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) (err error) {
	if o.dir, err = os.MkdirTemp("", "client"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if o.host == "" {
		stop, err := o.serve(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := o.inputs(); err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "round\tgen tok/s\tcalls\tplain loop tok/s, calls at once\tgen / best of the loop")
	var ratios []float64
	for round := range o.rounds + 1 { // the first one warms up
		o.seed = 1000 + round
		r := &recorder{}
		rate, err := o.generate(ctx, r, round)
		if err != nil {
			return err
		}
		best, all := 0.0, ""
		for n := 1; n <= 2*o.parallel; n *= 2 {
			plain, err := o.replay(ctx, r.requests, n)
			if err != nil {
				return err
			}
			best = max(best, plain)
			all += fmt.Sprintf("%d: %.1f  ", n, plain)
		}
		if round == 0 {
			continue
		}
		ratios = append(ratios, rate/best)
		fmt.Fprintf(table, "%d\t%.1f\t%d\t%s\t%.1f %%\n", round, rate, len(r.requests), all, 100*rate/best)
	}
	slices.Sort(ratios)
	fmt.Fprintf(table, "median\t\t\t\t%.1f %%\n", 100*ratios[len(ratios)/2])
	if err := table.Flush(); err != nil {
		return err
	}
	return o.ideal(ctx)
}

// ideal makes dialogues with a server that takes a fixed time for an answer, however many it is asked for: with N calls
// at once all take that time, times their number, over N.
func (o *options) ideal(ctx context.Context) error {
	const latency, parallel = 50 * time.Millisecond, 32
	s := &fakellm.Server{Latency: latency, Context: 8192}
	if err := s.Start(); err != nil {
		return err
	}
	defer s.Close()
	o.host, o.name, o.parallel, o.dialogues = s.URL, "fake", parallel, 64*parallel
	if err := o.inputs(); err != nil {
		return err
	}
	r := &recorder{}
	start := time.Now()
	if _, err := o.generate(ctx, r, -1); err != nil {
		return err
	}
	took, want := time.Since(start), time.Duration(len(r.requests))*latency/parallel
	fmt.Printf("server of %v an answer, %d calls at once: %d calls in %.2f s, %.2f s at best: %.1f %%\n",
		latency, parallel, len(r.requests), took.Seconds(), want.Seconds(), 100*want.Seconds()/took.Seconds())
	return nil
}

// serve starts a server of our own with the model on it.
func (o *options) serve(ctx context.Context) (stop func(), err error) {
	if o.model == "" {
		return nil, errors.New("model: got none, want a GGUF file")
	}
	program, err := ollama.Build(ctx)
	if err != nil {
		return nil, err
	}
	s, err := ollama.Start(ctx, program, filepath.Join(o.dir, "server"), fmt.Sprint("OLLAMA_NUM_PARALLEL=", o.parallel))
	if err != nil {
		return nil, err
	}
	if err := s.Add(ctx, o.name, o.model, ollama.ChatML); err != nil {
		s.Stop()
		return nil, err
	}
	o.host = s.URL.String()
	return s.Stop, nil
}

// inputs writes a card and a scene for every ten dialogues.
func (o *options) inputs() (err error) {
	card := "version: 1\nid: measured\nname: 백설공주\npersona: 당신은 백설공주입니다.\n"
	if o.card, err = persona.Parse([]byte(card), "card.yaml"); err != nil {
		return err
	}
	var scenes []map[string]string
	for i := range (o.dialogues + 9) / 10 {
		scenes = append(scenes, map[string]string{"type": "일상", "location": "부엌", "background": fmt.Sprintf("%d번째 아침에 난로 위에서 수프가 끓고 있다.", i+1)})
	}
	text, err := json.Marshal(scenes)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(o.dir, "scenes.json"), text, 0o666), os.WriteFile(filepath.Join(o.dir, "card.yaml"), []byte(card), 0o666))
}

// recorder keeps the requests that go to an engine.
type recorder struct {
	*engine.Ollama
	mu       sync.Mutex
	requests [][]byte
	tokens   int
}

// Chat asks the engine.
func (r *recorder) Chat(ctx context.Context, q engine.Request) (engine.Reply, error) {
	reply, err := r.Ollama.Chat(ctx, q)
	body, jsonErr := json.Marshal(r.Body(q))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(q.Schema) > 0 { // not the one that measures the prompt
		r.requests = append(r.requests, body)
		r.tokens += reply.Tokens
	}
	return reply, errors.Join(err, jsonErr)
}

// generate makes dialogues with gen, and gives the rate in tokens per second from the first request to the end.
func (o *options) generate(ctx context.Context, r *recorder, round int) (float64, error) {
	var err error
	if r.Ollama, err = engine.NewOllama(o.host, o.name, time.Hour); err != nil {
		return 0, err
	}
	defer r.Close()
	g := gen.DefaultOptions()
	g.Root, g.Kind, g.Model, g.Card = filepath.Join(o.dir, fmt.Sprint("root", round)), prompt.Dialogue, o.name, o.card
	g.CardPath, g.Scenes = filepath.Join(o.dir, "card.yaml"), filepath.Join(o.dir, "scenes.json")
	g.Count, g.Parallel, g.Engines, g.Tries, g.Similarity = 10, o.parallel, []gen.Engine{r}, 1, 0
	g.Sampling.NumPredict, g.Sampling.NumCtx, g.Sampling.Seed = o.predict, 2048, o.seed
	if g.Template, err = prompt.Builtin(prompt.Dialogue, "korean"); err != nil {
		return 0, err
	}
	report, err := gen.Run(ctx, g)
	if err != nil && !errors.Is(err, gen.ErrOpen) { // what a small model says need not be usable
		return 0, err
	}
	return float64(r.tokens) / report.Seconds, nil
}

// replay sends requests with n calls at once, and gives the rate in tokens per second.
func (o *options) replay(ctx context.Context, requests [][]byte, n int) (float64, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	next, tokens := 0, 0
	start := time.Now()
	for range n {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed != nil || i >= len(requests)
				mu.Unlock()
				if stop {
					return
				}
				got, err := o.send(ctx, client, requests[i])
				mu.Lock()
				tokens += got
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return float64(tokens) / time.Since(start).Seconds(), failed
}

func (o *options) send(ctx context.Context, client *http.Client, body []byte) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.host+"/api/chat", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var answer api.ChatResponse
	if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("answer: got status %d, %.200s: %w", response.StatusCode, text, err)
	}
	return answer.EvalCount, nil
}
