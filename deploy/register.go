package deploy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
	"golang.org/x/mod/semver"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

// Errors of Register that a caller may want to tell apart.
var (
	ErrDown     = errors.New("no answer from the Ollama server")
	ErrTooOld   = errors.New("the Ollama server is too old")
	ErrFull     = errors.New("no room on the Ollama server's disk")
	ErrDiffers  = errors.New("the server holds another model than it was given")
	ErrChecksum = errors.New("checksum")
)

// MinVersion is the oldest server that Register works with: it has the files of a create request, and executes
// templates with loops over numbers.
const MinVersion = "0.7.0"

// RegisterOptions say where and how to register.
type RegisterOptions struct {
	Server    *url.URL // of the Ollama server
	Models    string   // its model folder, "" if it is not on this machine: whose free space is looked at
	KeepOld   bool     // a model that had the name is kept, with -old at its tag
	NoProbe   bool     // do not load the model to see what it renders
	SHA256    string   // what the file must have, in hex; "" takes any
	Transport http.RoundTripper
	// Progress is told the bytes of the file that are through; stage is "hash" or "upload".
	Progress func(stage string, done, total int64)
	Status   func(line string) // what the server says it does
}

// Registered is what a registration made.
type Registered struct {
	Name     string        `json:"name"`
	Server   string        `json:"server"`
	Version  string        `json:"version"`  // of the server
	Digest   string        `json:"digest"`   // of the file, as the server has it
	Size     int64         `json:"size"`     // bytes of the file
	Uploaded bool          `json:"uploaded"` // false when the server had the file already
	Replaced bool          `json:"replaced"`
	Old      string        `json:"old,omitempty"` // the name under which the old model is kept
	Persona  string        `json:"persona_sha256"`
	Duration time.Duration `json:"duration_ns"`
}

// registration is a Register under way.
type registration struct {
	*Spec
	o      RegisterOptions
	http   *http.Client
	client *api.Client
	out    Registered
	fresh  string // temporary name of the new model
	backup string // temporary name of the old one
}

// Register uploads the file and makes the model name of it, checks what the server then holds, and only then
// gives it the name: until that the model that had the name answers as before. What fails, or is cancelled,
// leaves no model behind.
func (s *Spec) Register(ctx context.Context, name string, o RegisterOptions) (*Registered, error) {
	start := time.Now()
	r := &registration{Spec: s, o: o, http: &http.Client{Transport: o.Transport}}
	r.client = api.NewClient(o.Server, r.http)
	r.out = Registered{Name: name, Server: o.Server.String(), Persona: s.Card.Hash()}
	if err := checkName(name); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{r.version, r.hash, r.upload, r.create, r.replace} {
		if err := step(ctx); err != nil {
			r.cleanUp(ctx)
			return nil, fmt.Errorf("register %s: %w", name, err)
		}
	}
	r.cleanUp(ctx)
	r.out.Duration = time.Since(start)
	return &r.out, nil
}

var modelName = regexp.MustCompile(`^([\w.-]+/){0,2}\w[\w.-]{0,79}(:\w[\w.-]{0,50})?$`)

// checkName wants a model name that leaves room for a longer tag.
func checkName(name string) error {
	if !modelName.MatchString(name) {
		return fmt.Errorf("model name: got %q, want NAME or NAME:TAG of letters, digits, _, - and .", name)
	}
	return nil
}

// tagged is name with a suffix to its tag.
func tagged(name, suffix string) string {
	if strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		return name + "-" + suffix
	}
	return name + ":latest-" + suffix
}

func (r *registration) version(ctx context.Context) error {
	version, err := r.client.Version(ctx)
	if err != nil {
		return r.explain(err)
	}
	r.out.Version = version
	if v := "v" + version; semver.IsValid(v) && version != "0.0.0" && semver.Compare(v, "v"+MinVersion) < 0 { // 0.0.0 is a build of one's own
		return fmt.Errorf("%w: got %s, want %s or newer", ErrTooOld, version, MinVersion)
	}
	return nil
}

// explain makes an error say what it means.
func (r *registration) explain(err error) error {
	var status api.StatusError
	var network *net.OpError
	switch {
	case strings.Contains(err.Error(), "no space left on device"), strings.Contains(err.Error(), "disk quota exceeded"):
		return fmt.Errorf("%s: %w: %w", r.o.Server, ErrFull, err)
	case errors.As(err, &status):
		return fmt.Errorf("%s: %w", r.o.Server, err)
	case errors.As(err, &network) && network.Op == "dial":
		return fmt.Errorf("%s: %w: %w", r.o.Server, ErrDown, err)
	}
	return fmt.Errorf("%s: %w", r.o.Server, err)
}

// hash reads the whole file.
func (r *registration) hash(ctx context.Context) error {
	f, err := os.Open(r.Model)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.out.Size, err = r.fileSize(); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, r.reader(ctx, f, "hash")); err != nil {
		return fmt.Errorf("%s: %w", r.Model, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if r.o.SHA256 != "" && !strings.EqualFold(r.o.SHA256, sum) {
		return fmt.Errorf("%s: %w: got %s, want %s", r.Model, ErrChecksum, sum, strings.ToLower(r.o.SHA256))
	}
	r.out.Digest = "sha256:" + sum
	return nil
}

// reader tells the progress of reading, and ends with ctx.
func (r *registration) reader(ctx context.Context, from io.Reader, stage string) io.Reader {
	return &countingReader{ctx: ctx, from: from, tell: func(done int64) {
		if r.o.Progress != nil {
			r.o.Progress(stage, done, r.out.Size)
		}
	}}
}

type countingReader struct {
	ctx  context.Context
	from io.Reader
	done int64
	tell func(done int64)
}

// Read reads on unless the context is done.
func (c *countingReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.from.Read(p)
	c.done += int64(n)
	c.tell(c.done)
	return n, err
}

// upload sends the file unless the server has it. A server that gets it from somebody else meanwhile answers
// without reading, which can look like a broken connection: so it is asked again after every error.
func (r *registration) upload(ctx context.Context) error {
	has, err := r.hasBlob(ctx)
	if err != nil || has {
		return err
	}
	if err := r.room(); err != nil {
		return err
	}
	f, err := os.Open(r.Model)
	if err != nil {
		return err
	}
	defer f.Close()
	err = r.client.CreateBlob(ctx, r.out.Digest, r.reader(ctx, f, "upload"))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if has, headErr := r.hasBlob(ctx); headErr == nil && has {
			return nil
		}
		return fmt.Errorf("upload %s: %w", r.Model, r.explain(err))
	}
	r.out.Uploaded = true
	return nil
}

func (r *registration) hasBlob(ctx context.Context) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, r.o.Server.JoinPath("/api/blobs/", r.out.Digest).String(), nil)
	if err != nil {
		return false, err
	}
	response, err := r.http.Do(request)
	if err != nil {
		return false, r.explain(err)
	}
	response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, fmt.Errorf("%s: HEAD %s: got status %s, want 200 or 404", r.o.Server, r.out.Digest, response.Status)
}

// spare is what a server needs besides the file.
const spare = 16 << 20

// room looks at the disk of a server on this machine: the server keeps a copy of the file.
func (r *registration) room() error {
	dir := r.o.Models
	for dir != "" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
	if dir == "" {
		return nil
	}
	free, err := atomicfile.FreeSpace(dir)
	if err != nil {
		return nil // the upload itself will tell
	}
	if need := uint64(r.out.Size) + spare; free < need {
		return fmt.Errorf("%w: %s: got %s free, want %s", ErrFull, r.o.Models, unit.Bytes(int64(free)), unit.Bytes(int64(need)))
	}
	return nil
}

// create makes the model under a name of its own, and looks at it.
func (r *registration) create(ctx context.Context) error {
	r.fresh = tagged(r.out.Name, "new-"+r.out.Digest[len("sha256:"):][:8])
	success := false
	err := r.client.Create(ctx, r.Request(r.fresh, r.out.Digest), func(p api.ProgressResponse) error {
		success = success || p.Status == "success"
		if r.o.Status != nil {
			r.o.Status(p.Status)
		}
		return nil
	})
	if err == nil && !success {
		err = errors.New("the answer ended before success")
	}
	if err != nil {
		return fmt.Errorf("create: %w", cmp.Or(ctx.Err(), r.explain(err)))
	}
	if err := r.compare(ctx, r.fresh); err != nil {
		return err
	}
	if r.o.NoProbe || r.renderer == nil {
		return nil
	}
	return r.probe(ctx)
}
