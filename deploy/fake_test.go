package deploy

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ollama/ollama/api"
)

// fake is an Ollama server as far as registering needs one, which can be made to fail.
type fake struct {
	t       testing.TB
	version string
	failAt  int    // number of the request, from 1, that is answered with failure
	failure string // text of that answer
	status  int    // and its status
	cut     bool   // the create answer ends without success
	change  func(*api.ShowResponse)
	debug   func(api.ChatRequest) string // rendered text
	race    bool                         // somebody else uploads the blob meanwhile

	mu       sync.Mutex
	requests []string
	blobs    map[string]bool
	models   map[string]*api.CreateRequest
}

func newFake(t testing.TB, f *fake) (*fake, *url.URL) {
	f.t, f.blobs, f.models = t, map[string]bool{}, map[string]*api.CreateRequest{}
	if f.version == "" {
		f.version = "0.17.4"
	}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return f, u
}

// names are the models that the server has.
func (f *fake) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.models))
}

func (f *fake) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, q.Method+" "+q.URL.Path)
	if len(f.requests) == f.failAt {
		w.WriteHeader(f.status)
		fmt.Fprintf(w, `{"error":%q}`, f.failure)
		return
	}
	switch digest, isBlob := strings.CutPrefix(q.URL.Path, "/api/blobs/"); {
	case isBlob && q.Method == http.MethodHead:
		if !f.blobs[digest] {
			w.WriteHeader(http.StatusNotFound)
		}
	case isBlob:
		f.blobs[digest] = true
		if f.race {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case q.URL.Path == "/api/version":
		fmt.Fprintf(w, `{"version":%q}`, f.version)
	case q.URL.Path == "/api/create":
		f.create(w, body)
	case q.URL.Path == "/api/show":
		f.show(w, body)
	case q.URL.Path == "/api/copy":
		var r api.CopyRequest
		f.read(body, &r)
		f.models[r.Destination] = f.models[r.Source]
	case q.URL.Path == "/api/delete":
		var r api.DeleteRequest
		f.read(body, &r)
		delete(f.models, r.Model)
	case q.URL.Path == "/api/generate":
		fmt.Fprintln(w, `{"done":true,"done_reason":"unload"}`)
	case q.URL.Path == "/api/chat":
		var r api.ChatRequest
		f.read(body, &r)
		json.NewEncoder(w).Encode(api.ChatResponse{DebugInfo: &api.DebugInfo{RenderedTemplate: f.debug(r)}})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (f *fake) read(body []byte, v any) {
	if err := json.Unmarshal(body, v); err != nil {
		f.t.Error(err)
	}
}

// create has the rules of servers from 0.34.1 on: one GGUF file, nothing to be quantized or adapted.
func (f *fake) create(w http.ResponseWriter, body []byte) {
	var r api.CreateRequest
	f.read(body, &r)
	for name, digest := range r.Files {
		if !strings.HasSuffix(name, ".gguf") || !f.blobs[digest] || strings.ContainsAny(name, "/\\") {
			fmt.Fprintf(w, `{"error":"unsupported file %s"}`+"\n", name)
			return
		}
	}
	if len(r.Files) != 1 || r.Quantize != "" || len(r.Adapters) > 0 || r.From != "" {
		fmt.Fprintln(w, `{"error":"only a GGUF file is supported"}`)
		return
	}
	fmt.Fprintln(w, `{"status":"parsing GGUF"}`)
	if f.cut {
		return
	}
	f.models[r.Model] = &r
	fmt.Fprintln(w, `{"status":"success"}`)
}

func (f *fake) show(w http.ResponseWriter, body []byte) {
	var r api.ShowRequest
	f.read(body, &r)
	m, ok := f.models[r.Model]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"error":"model '%s' not found"}`, r.Model)
		return
	}
	answer := api.ShowResponse{Template: m.Template, System: m.System, Messages: m.Messages}
	for _, digest := range m.Files {
		answer.Modelfile = "# FROM x\n\nFROM /models/blobs/" + strings.Replace(digest, ":", "-", 1) + "\nTEMPLATE x\n"
	}
	var lines []string
	for name, value := range m.Parameters {
		if stops, ok := value.([]any); ok {
			for _, stop := range stops {
				lines = append(lines, fmt.Sprintf("%-30s %#v", name, stop))
			}
		} else {
			lines = append(lines, fmt.Sprintf("%-30s %#v", name, value))
		}
	}
	answer.Parameters = strings.Join(lines, "\n")
	if f.change != nil {
		f.change(&answer)
	}
	json.NewEncoder(w).Encode(answer)
}
