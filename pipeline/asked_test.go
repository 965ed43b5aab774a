package pipeline

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/ollama/ollama/api"
	"gopkg.in/yaml.v3"

	"github.com/persona-gguf/persona-gguf/persona"
)

// asked has the conversations of a client with the model that a run has made, through every way in, and wants the
// answers that the file gives in this process. What a client knows stands in the conf.yaml that the run has set.
func (w *whole) asked() {
	w.t.Helper()
	conf := w.conf()
	card, err := persona.Read(filepath.Join(w.dir, "card.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.dir, "way", "models", "snow_white-q4_0.gguf")
	model, err := llama.LoadModel(file, llama.DefaultModelParams())
	if err != nil {
		w.t.Fatal(err)
	}
	defer model.Close()
	renderer, err := persona.NewRenderer(card, persona.Options{End: "<|im_end|>", Vocabulary: []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, question := range []string{"너는 누구야?", "누구와 살았어요?"} {
		turns := []persona.Turn{{Role: card.User.Name, Content: question}}
		for range 2 {
			prompt, err := renderer.Prompt(turns)
			if err != nil {
				w.t.Fatal(err)
			}
			want := w.answer(model, prompt, renderer.Stops())
			ways := map[string]func(*clientConf, []persona.Turn) string{"/api/chat": w.chat, "/v1/chat/completions": w.completions}
			for name, ask := range ways {
				if got := ask(conf, turns); got != want {
					w.t.Errorf("%s, %q: got %q, want %q", name, turns, got, want)
				}
			}
			turns = append(turns, persona.Turn{Role: card.Name, Content: strings.TrimSpace(want) + "."}, persona.Turn{Role: card.User.Name, Content: "그리고요?"})
		}
	}
}

// mostTokens is the length of an answer.
const mostTokens = 24

// answer is what the file says in this process, greedily.
func (w *whole) answer(model *llama.Model, prompt string, stops []string) string {
	w.t.Helper()
	p := llama.DefaultContextParams()
	p.NCtx, p.Threads = 2048, 1
	c, err := model.NewContext(p)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	s := llama.DefaultSamplerParams()
	s.Temperature, s.RepeatPenalty = 0, 1
	sampler, err := llama.NewSampler(model, s)
	if err != nil {
		w.t.Fatal(err)
	}
	defer sampler.Close()
	tokens, err := model.Tokenize(prompt, true, true)
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := c.Generate(w.t.Context(), tokens, sampler, llama.GenerateOptions{MaxTokens: mostTokens, Stops: stops})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.ToValidUTF8(result.Text, "") // as JSON carries it
}

// clientConf is what Open-LLM-VTuber reads in its configuration.
type clientConf struct {
	Character struct {
		Name    string `yaml:"character_name"`
		Persona string `yaml:"persona_prompt"`
		Agent   struct {
			LLMs struct {
				Ollama struct {
					BaseURL string `yaml:"base_url"`
					Model   string `yaml:"model"`
				} `yaml:"ollama_llm"`
			} `yaml:"llm_configs"`
		} `yaml:"agent_config"`
	} `yaml:"character_config"`
}

func (w *whole) conf() *clientConf {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "way", "vtuber", "conf.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	c := &clientConf{}
	if err := yaml.Unmarshal(text, c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// messages are turns as OpenAI's and Ollama's APIs have them.
func (c *clientConf) messages(turns []persona.Turn) (out []api.Message) {
	for _, turn := range turns {
		role := "user"
		if turn.Role == c.Character.Name {
			role = "assistant"
		}
		out = append(out, api.Message{Role: role, Content: turn.Content})
	}
	return out
}

// chat sends no system text: the model has its own.
func (w *whole) chat(c *clientConf, turns []persona.Turn) string {
	w.t.Helper()
	var b strings.Builder
	request := &api.ChatRequest{Model: c.Character.Agent.LLMs.Ollama.Model, Messages: c.messages(turns), Options: map[string]any{"temperature": 0, "num_thread": 1}}
	err := w.server.Client().Chat(w.t.Context(), request, func(r api.ChatResponse) error {
		b.WriteString(r.Message.Content)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

// completions does as the stock client does: the persona of its configuration, streaming, no stop list.
func (w *whole) completions(c *clientConf, turns []persona.Turn) string {
	w.t.Helper()
	messages := append([]api.Message{{Role: "system", Content: c.Character.Persona}}, c.messages(turns)...)
	llm := c.Character.Agent.LLMs.Ollama
	var b strings.Builder
	w.post(llm.BaseURL+"/chat/completions", map[string]any{"model": llm.Model, "messages": messages, "stream": true, "temperature": 0}, func(line []byte) {
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok || string(data) == "[DONE]" {
			return
		}
		var piece struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if err := json.Unmarshal(data, &piece); err != nil {
			w.t.Fatalf("%v: %s", err, data)
		}
		for _, choice := range piece.Choices {
			b.WriteString(choice.Delta.Content)
		}
	})
	return b.String()
}

// post sends JSON and reads the answer line by line.
func (w *whole) post(url string, body any, read func(line []byte)) {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := http.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: got %s", url, response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			read(lines.Bytes())
		}
	}
	if err := lines.Err(); err != nil {
		w.t.Fatal(err)
	}
}
