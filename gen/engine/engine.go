// Package engine asks language models: an Ollama server, any server with OpenAI's chat API, or a GGUF file in this
// process. The three answer the same requests with the same errors.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/persona-gguf/persona-gguf/internal/batch"
)

// The reasons for which a call fails.
const (
	Timeout     = "timeout"      // no answer in the time that the context gives
	ServerError = "server_error" // the server, or the way to it, failed
)

// Aborted is the reason of an answer that an Ollama server has given up: a model that repeats a token 30 times is stopped
// there, and the answer ends without being done.
const Aborted = "aborted"

// Errors that end a run, since every call would meet them.
var (
	ErrModel   = errors.New("model not found")
	ErrContext = batch.ErrContext
	ErrRefused = errors.New("the server refuses the request")
)

// Request is one question to a model.
type Request struct {
	Messages []Message
	Options  Options
	Schema   json.RawMessage // the answer is JSON of this schema; nil: text
}

// Message is one message of a chat.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Options are the options of sampling, named as Ollama names them.
type Options struct {
	Temperature   float64 `json:"temperature"`
	TopP          float64 `json:"top_p"`
	TopK          int     `json:"top_k"`
	RepeatPenalty float64 `json:"repeat_penalty"`
	RepeatLastN   int     `json:"repeat_last_n"`
	NumPredict    int     `json:"num_predict"`
	NumCtx        int     `json:"num_ctx"`
	Seed          int     `json:"seed"`
}

// Reply is what came back.
type Reply struct {
	Content      string
	DoneReason   string // "stop", "length" when num_predict or the context ended it, or Aborted
	PromptTokens int
	Tokens       int
	Duration     time.Duration
}

// Info is what an engine says about its model.
type Info struct {
	Version  string // of the server
	Context  int    // tokens that the model can hold; 0: unknown
	Parallel int    // requests that the engine works on at the same time; 0: unknown
}

// Error is a failed call. Down says that nobody listens there: another call now is in vain.
type Error struct {
	Reason string
	Down   bool
	Err    error
}

// Error gives the text.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives what it wraps.
func (e *Error) Unwrap() error { return e.Err }

// newClient makes an HTTP client that keeps as many connections as there are calls at once.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:        http.ProxyFromEnvironment,
		DialContext:  (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns: 0, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 90 * time.Second,
	}}
}

// maxAnswer is the size of the longest answer that is read, in bytes.
const maxAnswer = 64 << 20

// remote is a server.
type remote struct {
	base  *url.URL
	http  *http.Client
	key   string // sent as a bearer token; "": none
	scrub *strings.Replacer
}

// newRemote takes an address such as http://127.0.0.1:11434, or host:port.
func newRemote(address, key string) (*remote, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("server address: got %q, want http://HOST:PORT", address)
	}
	r := &remote{base: base, http: newClient(), key: key, scrub: strings.NewReplacer()}
	if key != "" {
		r.scrub = strings.NewReplacer(key, "[secret]")
	}
	return r, nil
}

// Name is the server's address without a password.
func (r *remote) Name() string { return r.base.Redacted() }

// Close gives up idle connections.
func (r *remote) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// post sends body as JSON to a path below the address, and decodes the answer.
func (r *remote) post(ctx context.Context, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return r.do(ctx, http.MethodPost, path, string(text), answer)
}

func (r *remote) do(ctx context.Context, method, path, body string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, r.base.JoinPath(path).String(), strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if r.key != "" {
		request.Header.Set("Authorization", "Bearer "+r.key)
	}
	response, err := r.http.Do(request)
	if err != nil {
		return r.transportError(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return r.transportError(ctx, fmt.Errorf("the answer breaks off after %d bytes: %w", len(text), err))
	}
	if response.StatusCode >= 300 {
		return r.statusError(response.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return &Error{Reason: ServerError, Err: fmt.Errorf("%s: answer of %d bytes: %w", r.Name(), len(text), err)}
	}
	return nil
}

// transportError says what kept a call from getting an answer.
func (r *remote) transportError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	wrapped := &url.Error{}
	if errors.As(err, &wrapped) { // it repeats the whole address, with a password in it
		err = wrapped.Err
	}
	failed := &Error{Reason: ServerError, Err: fmt.Errorf("%s: %w", r.Name(), err)}
	var dial *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		failed.Reason = Timeout
	case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, syscall.ECONNREFUSED):
		failed.Down = true
	}
	return failed
}

// statusError makes an error of an HTTP status. Those that no repetition changes wrap ErrModel or ErrRefused.
func (r *remote) statusError(status int, text []byte) error {
	message := strings.TrimSpace(string(text))
	var object struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(text, &object) == nil && len(object.Error) > 0 {
		var inner struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(object.Error, &inner) == nil && inner.Message != "" {
			message = inner.Message
		} else {
			message = strings.Trim(string(object.Error), `"`)
		}
	}
	message = r.scrub.Replace(message)
	if runes := []rune(message); len(runes) > 300 {
		message = string(runes[:300]) + "…"
	}
	err := fmt.Errorf("%s: HTTP status %d: %s", r.Name(), status, message)
	switch {
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrModel, err)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return &Error{Reason: ServerError, Err: err}
	case strings.Contains(message, "exceeds") && strings.Contains(message, "context"):
		return fmt.Errorf("%w: %w", ErrContext, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// withoutThoughts takes <think>…</think> off an answer, also when only the closing tag is there.
func withoutThoughts(text string) string {
	if i := strings.LastIndex(text, "</think>"); i >= 0 {
		text = text[i+len("</think>"):]
	} else if i := strings.Index(text, "<think>"); i >= 0 {
		text = text[:i]
	}
	return strings.TrimSpace(text)
}
