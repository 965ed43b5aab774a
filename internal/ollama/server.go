package ollama

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ollama/ollama/api"
)

// Server is a running server.
type Server struct {
	URL *url.URL // without a path
	Dir string   // its home, with its models

	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when its process has ended
	once sync.Once
}

var listening = regexp.MustCompile(`Listening on (127\.0\.0\.1:\d+)`)

// startTimeout is for a busy machine; stopTimeout leaves time for the runners of models to end.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// Start runs program (see Build) with its models in dir, on a port that the system chooses, and returns once it
// answers. env are further variables. Stop must be called.
func Start(ctx context.Context, program, dir string, env ...string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start ollama: %w", err)
	}
	s := &Server{Dir: dir, log: &tail{}, done: make(chan struct{})}
	s.cmd = exec.Command(program, "serve")
	s.cmd.Env = append([]string{
		"PATH=" + filepath.Dir(program), "HOME=" + dir, "TMPDIR=" + dir, "OLLAMA_HOST=127.0.0.1:0", "OLLAMA_MODELS=" + filepath.Join(dir, "models"),
		"OLLAMA_NO_CLOUD=1", "OLLAMA_NUM_PARALLEL=1",
	}, env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group with its runners
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start ollama: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ollama: %w", err)
	}
	address := make(chan string, 1)
	go s.follow(pipe, address)
	select {
	case host := <-address:
		s.URL = &url.URL{Scheme: "http", Host: host}
		return s, nil
	case <-s.done:
		err = errors.New("it ended at once")
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startTimeout):
		err = errors.New("got no answer")
	}
	s.Stop()
	return nil, fmt.Errorf("start ollama: %w\n%s", err, s.Log())
}

// follow reads the log to its end, and the address out of it.
func (s *Server) follow(pipe io.Reader, address chan<- string) {
	defer close(s.done)
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		s.log.add(line)
		if m := listening.FindStringSubmatch(line); m != nil {
			address <- m[1]
		}
		if err != nil {
			_ = s.cmd.Wait() // it is told to end, so how it ended says nothing
			return
		}
	}
}

// Client returns a client of the server.
func (s *Server) Client() *api.Client { return api.NewClient(s.URL, http.DefaultClient) }

// Log is the end of what the server has logged.
func (s *Server) Log() string { return s.log.text() }

// Stop ends the server and its runners, and waits for it. A second call does nothing.
func (s *Server) Stop() {
	s.once.Do(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(stopTimeout):
		}
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // what is left of its group
		<-s.done
	})
}

// Kill ends the server and its runners at once, as a crash would. Stop may follow.
func (s *Server) Kill() {
	s.once.Do(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
	})
}

// Add creates a model of a small GGUF file, with a template of Ollama's; "" leaves it to the server.
func (s *Server) Add(ctx context.Context, name, gguf, template string) error {
	f, err := os.Open(gguf)
	if err != nil {
		return fmt.Errorf("add model %s: %w", name, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("add model %s: %w", name, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("add model %s: %w", name, err)
	}
	digest := fmt.Sprintf("sha256:%x", h.Sum(nil))
	if err := s.Client().CreateBlob(ctx, digest, f); err != nil {
		return fmt.Errorf("add model %s: %w", name, err)
	}
	request := &api.CreateRequest{
		Model: name, Files: map[string]string{filepath.Base(gguf): digest}, Template: template,
		Parameters: map[string]any{"num_thread": 1}, // more of them wait by spinning, which is slow on a busy machine
	}
	if err := s.Client().Create(ctx, request, func(api.ProgressResponse) error { return nil }); err != nil {
		return fmt.Errorf("add model %s: %w", name, err)
	}
	return nil
}

// ChatML is a template for models that were trained on it.
const ChatML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"

// tail keeps the end of a log.
type tail struct {
	mu   sync.Mutex
	data []byte
}

const maxLog = 64 << 10

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, line...)
	t.data = t.data[max(0, len(t.data)-maxLog):]
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

// ForTest builds the program if need be, and runs it as long as the test lasts; if the test fails, the log is shown.
func ForTest(t testing.TB, env ...string) *Server {
	t.Helper()
	program, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ollama")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := Start(t.Context(), program, dir, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.Log())
		}
	})
	return s
}
