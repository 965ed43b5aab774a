// Package fakellm is a server for tests that answers as Ollama and as OpenAI's chat API do, at once or after a set
// time, and a proxy that breaks some of the calls that go through it. Answers follow the schema of the request and
// depend on its seed and prompt only.
package fakellm

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Call is a request for an answer.
type Call struct {
	N       int // from 1
	Path    string
	Header  http.Header
	Body    []byte
	Prompt  string
	Seed    int
	Options map[string]any
	Schema  json.RawMessage
	Predict int
}

// Answer is what the server says.
type Answer struct {
	Status     int // 0: 200
	Content    string
	DoneReason string        // "": stop
	Wait       time.Duration // besides the latency
	Hang       bool          // no answer until the caller gives up
	Cut        bool          // the connection ends in the middle of the answer
}

// Server is a running server. Its fields may be set before Start.
type Server struct {
	URL     string // such as http://127.0.0.1:1234, after Start
	Models  []string
	Context int           // length that the model claims
	Latency time.Duration // of an answer
	Slots   int           // answers that are worked on at the same time; 0: all
	// Answer makes an answer; nil: Good. It may be called from several goroutines.
	Answer func(c *Call) Answer
	// Address is where to listen; "" is a free port.
	Address string

	http  *http.Server
	slots chan struct{}
	ended sync.WaitGroup

	mu     sync.Mutex
	calls  int
	now    int
	most   int
	bodies [][]byte
}

// Start listens on a port of 127.0.0.1.
func (s *Server) Start() error {
	if s.Address == "" {
		s.Address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		return err
	}
	if len(s.Models) == 0 {
		s.Models = []string{"fake"}
	}
	if s.Slots > 0 {
		s.slots = make(chan struct{}, s.Slots)
	}
	s.Address = l.Addr().String()
	s.URL = "http://" + s.Address
	s.http = &http.Server{Handler: s}
	s.ended.Go(func() { _ = s.http.Serve(l) })
	return nil
}

// Close ends the server at once, with all connections.
func (s *Server) Close() {
	s.http.Close()
	s.ended.Wait()
}

// Calls is the number of questions so far, and Most how many were there at the same time.
func (s *Server) Calls() (n, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.most
}

// Bodies are the requests for answers so far.
func (s *Server) Bodies() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.bodies...)
}

// ServeHTTP answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch r.URL.Path {
	case "/api/version":
		reply(w, 200, map[string]any{"version": "0.17.4"})
	case "/api/tags":
		var models []map[string]string
		for _, m := range s.Models {
			models = append(models, map[string]string{"name": m})
		}
		reply(w, 200, map[string]any{"models": models})
	case "/v1/models":
		var models []map[string]any
		for _, m := range s.Models {
			models = append(models, map[string]any{"id": m, "max_model_len": s.Context})
		}
		reply(w, 200, map[string]any{"data": models})
	case "/api/show":
		s.show(w, body)
	case "/api/chat", "/v1/chat/completions":
		s.chat(w, r, body)
	default:
		reply(w, 404, map[string]any{"error": "no such page"})
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}

func (s *Server) has(model string) bool {
	for _, m := range s.Models {
		if m == model {
			return true
		}
	}
	return false
}

func (s *Server) show(w http.ResponseWriter, body []byte) {
	var request struct{ Model string }
	if json.Unmarshal(body, &request) != nil || !s.has(request.Model) {
		reply(w, 404, map[string]any{"error": fmt.Sprintf("model '%s' not found", request.Model)})
		return
	}
	info := map[string]any{"general.architecture": "fake"}
	if s.Context > 0 {
		info["fake.context_length"] = s.Context
	}
	reply(w, 200, map[string]any{"model_info": info, "capabilities": []string{"completion"}})
}

// request is what both APIs have in common.
type request struct {
	Model          string
	Messages       []struct{ Content string }
	Options        map[string]any
	Format         json.RawMessage
	Seed           int
	MaxTokens      int `json:"max_tokens"`
	ResponseFormat struct {
		Schema struct{ Schema json.RawMessage } `json:"json_schema"`
	} `json:"response_format"`
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request, body []byte) {
	var q request
	if err := json.Unmarshal(body, &q); err != nil || !s.has(q.Model) || len(q.Messages) == 0 {
		reply(w, 404, map[string]any{"error": fmt.Sprintf("model '%s' not found", q.Model)})
		return
	}
	c := &Call{Path: r.URL.Path, Header: r.Header, Body: body, Prompt: q.Messages[len(q.Messages)-1].Content, Options: q.Options, Schema: q.Format, Seed: q.Seed, Predict: q.MaxTokens}
	if seed, ok := q.Options["seed"].(float64); ok {
		c.Seed = int(seed)
	}
	if n, ok := q.Options["num_predict"].(float64); ok {
		c.Predict = int(n)
	}
	if c.Schema == nil {
		c.Schema = q.ResponseFormat.Schema.Schema
	}
	if !s.begin(r, c) {
		return
	}
	defer s.end()
	answer := Good(c)
	if s.Answer != nil {
		answer = s.Answer(c)
	}
	if wait := s.Latency + answer.Wait; wait > 0 && c.Predict != 1 {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
	}
	s.send(w, r, q.Model, c, answer)
}

// begin waits for a slot.
func (s *Server) begin(r *http.Request, c *Call) bool {
	s.mu.Lock()
	s.calls++
	c.N = s.calls
	s.now++
	s.most = max(s.most, s.now)
	s.bodies = append(s.bodies, c.Body)
	s.mu.Unlock()
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
		case <-r.Context().Done():
			s.mu.Lock()
			s.now--
			s.mu.Unlock()
			return false
		}
	}
	return true
}

func (s *Server) end() {
	if s.slots != nil {
		<-s.slots
	}
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, model string, c *Call, a Answer) {
	if a.Hang {
		<-r.Context().Done()
		return
	}
	if a.DoneReason == "" {
		a.DoneReason = "stop"
	}
	if a.Status >= 300 {
		reply(w, a.Status, map[string]any{"error": a.Content})
		return
	}
	tokens := len([]rune(a.Content))
	object := map[string]any{
		"model": model, "message": map[string]string{"role": "assistant", "content": a.Content}, "done": true, "done_reason": a.DoneReason,
		"prompt_eval_count": len([]rune(c.Prompt)), "eval_count": tokens,
	}
	if strings.HasPrefix(c.Path, "/v1/") {
		object = map[string]any{
			"choices": []any{map[string]any{"message": map[string]string{"content": a.Content}, "finish_reason": a.DoneReason}},
			"usage":   map[string]int{"prompt_tokens": len([]rune(c.Prompt)), "completion_tokens": tokens},
		}
	}
	if !a.Cut {
		reply(w, 200, object)
		return
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	_, _ = w.Write(text[:len(text)/2])
	panic(http.ErrAbortHandler)
}

// Good is an answer of the form that the request asks for.
func Good(c *Call) Answer {
	h := fnv.New64a()
	_, _ = io.WriteString(h, c.Prompt)
	r := rand.New(rand.NewPCG(uint64(c.Seed), h.Sum64()))
	var schema struct {
		Properties struct {
			Scenes *struct {
				MinItems int
				Items    struct {
					Properties struct{ Type struct{ Enum []string } }
				}
			}
			Turns *struct {
				MinItems int
				Items    struct {
					Properties struct {
						Role   struct{ Enum []string }
						Action struct{ Enum []string }
					}
				}
			}
		}
	}
	if len(c.Schema) == 0 || json.Unmarshal(c.Schema, &schema) != nil {
		return Answer{Content: Sentence(r, 8)}
	}
	var object map[string]any
	if scenes := schema.Properties.Scenes; scenes != nil {
		var list []any
		for range scenes.MinItems {
			list = append(list, map[string]string{"type": scenes.Items.Properties.Type.Enum[0], "location": Sentence(r, 2), "background": Sentence(r, 20)})
		}
		object = map[string]any{"scenes": list}
	} else if turns := schema.Properties.Turns; turns != nil {
		roles := turns.Items.Properties.Role.Enum
		var list []any
		for i := range max(turns.MinItems, 6) {
			list = append(list, map[string]string{"role": roles[(i+1)%2], "action": turns.Items.Properties.Action.Enum[0], "content": Sentence(r, 6)})
		}
		if m := identity.FindStringSubmatch(c.Prompt); m != nil {
			list[0].(map[string]string)["content"] = m[1]
			list[1].(map[string]string)["content"] = "저는 " + roles[0] + "예요. " + Sentence(r, 6)
		}
		object = map[string]any{"background": Sentence(r, 10), "turns": list}
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // it is made of texts
	}
	return Answer{Content: string(text)}
}

// identity is how a prompt asks for a dialogue about who the character is.
var identity = regexp.MustCompile(`물음 "([^"]+)"`)

// syllables make words that are Korean to the eye.
var syllables = []rune("가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후그느드르므브스으즈츠크트프흐기니디리미비시이지치키티피히")

// Sentence makes n words.
func Sentence(r *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		for range 2 + r.IntN(3) {
			b.WriteRune(syllables[r.IntN(len(syllables))])
		}
	}
	return b.String() + "요."
}
