package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Client says how whoever talks to the model puts a conversation into words.
type Client string

// The clients.
const (
	Chat Client = "chat" // sends messages (/api/chat, /v1/chat/completions): the template renders them
	Fork Client = "fork" // sends a finished prompt to /api/generate without raw: the template passes it through
)

// Options say what a Spec is made of. Model and Card must be given.
type Options struct {
	Model    string // GGUF file
	Card     *persona.Card
	Client   Client        // "" is Chat
	End      string        // the end token, if it is not the usual one of the card's format
	License  []string      // texts; nil takes general.license of the file
	Messages []api.Message // examples: user and assistant in turns
}

// Parameter is one PARAMETER line: a float64, an int or a string.
type Parameter struct {
	Name  string
	Value any
}

// Spec is all that an Ollama model holds besides its weights. Modelfile, Request, RequestOptions and Table are
// made from it, and nothing else says what the parameters are.
type Spec struct {
	Model      string // GGUF file
	Card       *persona.Card
	Client     Client
	Template   string
	System     string
	Parameters []Parameter // stop once for each text
	License    []string
	Messages   []api.Message
	Warnings   []string // one line each

	renderer *persona.Renderer // of the text that the template gives; nil for Fork
}

// ErrEnd marks an error about the token that ends utterances.
var ErrEnd = errors.New("end token")

// NewSpec reads the card's and the file's side of a model and checks that they fit: the end token is one of the
// vocabulary's control tokens, the persona leaves room in num_ctx, and the file is one that Ollama can run.
func NewSpec(o Options) (*Spec, error) {
	s := &Spec{Model: o.Model, Card: o.Card, Client: cmp.Or(o.Client, Chat), System: o.Card.Persona, License: o.License, Messages: o.Messages}
	if s.Client != Chat && s.Client != Fork {
		return nil, fmt.Errorf("client: got %q, want %s or %s", o.Client, Chat, Fork)
	}
	file, err := gguf.Open(o.Model)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := checkFile(file); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Model, err)
	}
	if s.License == nil {
		if text, ok := file.Meta.String("general.license"); ok && text != "" {
			s.License = []string{text}
		}
	}
	vocabulary := controlTokens(&file.Meta)
	r, err := s.newRenderer(o.End, vocabulary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Model, err)
	}
	if err := s.checkMessages(r); err != nil {
		return nil, err
	}
	keep, err := s.measure(o.Model, r)
	if err != nil {
		return nil, err
	}
	s.Template = PassThrough
	if s.Client == Chat {
		s.renderer = r
		if s.Template, err = Template(r, o.Card.User.Name, o.Card.Name); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Model, err)
		}
	} else if o.Card.Format != persona.TrainableAgents {
		s.warn("the fork client's prompts have the form of %s, the card says %s: the model sees a form that it was not trained on", persona.TrainableAgents, o.Card.Format)
	}
	trained, _ := file.Meta.Uint(architecture(file) + ".context_length")
	if trained > 0 && uint64(o.Card.Sampling.NumCtx) > trained {
		s.warn("num_ctx: the card says %d, the model was trained for %d: Ollama takes the smaller one", o.Card.Sampling.NumCtx, trained)
	}
	s.Parameters = Parameters(o.Card.Sampling, keep, r.Stops())
	return s, nil
}

func (s *Spec) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// checkFile wants one whole text model.
func checkFile(f *gguf.File) error {
	if kind, ok := f.Meta.String("general.type"); ok && kind != "model" {
		return fmt.Errorf("general.type: got %s, want a model", kind)
	}
	if n, ok := f.Meta.Uint("split.count"); ok && n > 1 {
		return fmt.Errorf("split model: unsupported: got %d files, want one", n)
	}
	if architecture(f) == "" || len(f.Tensors) == 0 {
		return fmt.Errorf("got no architecture or no tensors, want a whole model")
	}
	if tokens, ok := f.Meta.Strings("tokenizer.ggml.tokens"); !ok || len(tokens) == 0 {
		return fmt.Errorf("tokenizer.ggml.tokens: got none, want the vocabulary")
	}
	return nil
}

func architecture(f *gguf.File) string {
	arch, _ := f.Meta.String("general.architecture")
	return arch
}

// Token types of a vocabulary (llama.cpp, include/llama.h).
const (
	typeUnknown     = 2
	typeControl     = 3
	typeUserDefined = 4
)

// controlTokens are the texts that the tokenizers of llama.cpp and Ollama make one token wherever they stand.
func controlTokens(meta *gguf.Metadata) []string {
	tokens, _ := meta.Strings("tokenizer.ggml.tokens")
	value, _ := meta.Get("tokenizer.ggml.token_type")
	types, _ := value.([]int32)
	out := []string{}
	for i, t := range types {
		if i < len(tokens) && (t == typeControl || t == typeUnknown || t == typeUserDefined && persona.LooksLikeControl(tokens[i])) {
			out = append(out, tokens[i])
		}
	}
	return out
}

// newRenderer makes the renderer of the text that the model is asked with. A fork client writes trainable-agents,
// whatever the model was trained on; its turns still end as the model ends them.
func (s *Spec) newRenderer(end string, vocabulary []string) (*persona.Renderer, error) {
	r, err := persona.NewRenderer(s.Card, persona.Options{End: end, Vocabulary: vocabulary})
	if err != nil {
		return nil, err
	}
	if !slices.Contains(vocabulary, r.End()) {
		return nil, fmt.Errorf("%w: format %s: got no control token %s in the vocabulary, want the one that the training data ended utterances with", ErrEnd, r.Format(), r.End())
	}
	if s.Client == Fork {
		return persona.NewRenderer(s.Card, persona.Options{Format: persona.TrainableAgents, End: r.End(), Vocabulary: vocabulary})
	}
	return r, nil
}

// checkMessages wants examples that read as a conversation.
func (s *Spec) checkMessages(r *persona.Renderer) error {
	var turns []persona.Turn
	for i, m := range s.Messages {
		want := []string{"user", "assistant"}[i%2]
		if m.Role != want {
			return fmt.Errorf("messages: message %d: got role %q, want %s", i+1, m.Role, want)
		}
		turns = append(turns, persona.Turn{Role: map[string]string{"user": s.Card.User.Name, "assistant": s.Card.Name}[m.Role], Content: m.Content})
	}
	if len(turns)%2 != 0 {
		return fmt.Errorf("messages: got %d, want each of the user's answered", len(turns))
	}
	if len(turns) > 0 && s.Client == Fork {
		return errors.New("messages: got examples for a client that sends a finished prompt, want none")
	}
	if len(turns) == 0 {
		return nil
	}
	if _, err := r.Record(turns); err != nil {
		return fmt.Errorf("messages: %w", err)
	}
	return nil
}

// measure gives the number of tokens of the text before the first turn, which the server shall keep when it
// shifts a full context. It also compares the template in the file with the renderer.
func (s *Spec) measure(path string, r *persona.Renderer) (int, error) {
	p := llama.DefaultModelParams()
	p.VocabOnly, p.GPULayers = true, 0
	m, err := llama.LoadModel(path, p)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	tokens, err := m.Tokenize(r.Head(), true, true)
	if err != nil {
		return 0, fmt.Errorf("%s: persona: %w", path, err)
	}
	if c := s.Card.Sampling; len(tokens)+c.NumPredict >= c.NumCtx {
		return 0, fmt.Errorf("%s: persona: got %d tokens and num_predict %d, want fewer together than num_ctx %d", path, len(tokens), c.NumPredict, c.NumCtx)
	}
	if s.Client == Chat {
		s.compareTemplate(m, r)
	}
	return len(tokens), nil
}

// compareTemplate warns when llama.cpp would render a conversation otherwise, with the template in the file.
func (s *Spec) compareTemplate(m *llama.Model, r *persona.Renderer) {
	turns := []persona.Turn{{Role: s.Card.User.Name, Content: "1"}, {Role: s.Card.Name, Content: "2"}, {Role: s.Card.User.Name, Content: "3"}}
	want, err := r.Prompt(turns)
	if err != nil {
		return // the same error comes where it matters
	}
	if _, ok := m.ChatTemplate(""); !ok {
		s.warn("the file has no chat template: servers on llama.cpp need the one of --jinja")
		return
	}
	messages := []llama.ChatMessage{{Role: "system", Content: s.System}, {Role: "user", Content: "1"}, {Role: "assistant", Content: "2"}, {Role: "user", Content: "3"}}
	template, err := llama.NewChatTemplate(m, "")
	if err != nil {
		s.warn("the chat template in the file cannot be read (%v): servers on llama.cpp need the one of --jinja", err)
		return
	}
	defer template.Close()
	options := llama.DefaultChatOptions()
	options.EnableThinking = false
	got, err := template.Render(messages, options)
	if err != nil || got.Prompt != want {
		s.warn("the chat template in the file gives another text than the model was trained on: servers on llama.cpp need the one of --jinja")
	}
}

// Renderer gives the renderer whose text the template gives; nil for Fork.
func (s *Spec) Renderer() *persona.Renderer { return s.renderer }

// Jinja is the template for programs on llama.cpp.
func (s *Spec) Jinja() (string, error) {
	if s.renderer == nil {
		return "", errors.New("jinja: got a client that sends a finished prompt, want one that sends messages")
	}
	return Jinja(s.renderer, s.Card.User.Name, s.Card.Name), nil
}

// Parameters is the one list of what is set where a model answers. keep is the number of tokens that stay when
// the context is full.
func Parameters(c persona.Sampling, keep int, stops []string) []Parameter {
	out := []Parameter{
		{"temperature", c.Temperature}, {"top_p", c.TopP}, {"top_k", c.TopK}, {"num_predict", c.NumPredict},
		{"repeat_penalty", c.RepeatPenalty}, {"repeat_last_n", c.RepeatLastN}, {"num_ctx", c.NumCtx}, {"num_keep", keep},
	}
	for _, stop := range stops {
		out = append(out, Parameter{"stop", stop})
	}
	return out
}

// stops are the texts that end a reply, the end token first.
func (s *Spec) stops() (out []string) {
	for _, p := range s.Parameters {
		if p.Name == "stop" {
			out = append(out, p.Value.(string))
		}
	}
	return out
}

// RequestOptions are the parameters as the options of a request.
func (s *Spec) RequestOptions() map[string]any {
	out := map[string]any{}
	for _, p := range s.Parameters {
		out[p.Name] = p.Value
	}
	if stops := s.stops(); len(stops) > 0 {
		out["stop"] = stops
	}
	return out
}

// Request is what creates the model name from the file, whose blob has this digest.
func (s *Spec) Request(name, digest string) *api.CreateRequest {
	r := &api.CreateRequest{
		Model: name, Files: map[string]string{filepath.Base(s.Model): digest}, Template: s.Template, System: s.System,
		Parameters: s.RequestOptions(), Messages: s.Messages,
	}
	if len(s.License) > 0 {
		r.License = s.License
	}
	return r
}

// meanings says in a few words what a parameter does.
var meanings = map[string]string{
	"temperature": "how free the choice is", "top_p": "share of probability to choose from", "top_k": "tokens to choose from",
	"num_predict": "most tokens of a reply", "repeat_penalty": "penalty for repeating", "repeat_last_n": "tokens that count as repeated",
	"num_ctx": "tokens of persona, conversation and reply", "num_keep": "tokens of the persona, kept when the context is full",
	"stop": "every text that ends a reply",
}

// Table is the parameters of a card that says nothing about them, as a Markdown table.
func Table() string {
	var b strings.Builder
	b.WriteString("| parameter | default | what it is |\n|---|---|---|\n")
	for _, p := range Parameters(persona.DefaultSampling(), 0, []string{""}) {
		value := fmt.Sprint(p.Value)
		if p.Name == "num_keep" || p.Name == "stop" {
			value = "from card and model"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.Name, value, meanings[p.Name])
	}
	return b.String()
}

// fileSize is the size of the model file.
func (s *Spec) fileSize() (int64, error) {
	info, err := os.Stat(s.Model)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
