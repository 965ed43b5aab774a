package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
)

// ErrEnvironment says that the trainer's Python environment is missing, and could not be set up.
var ErrEnvironment = errors.New("training environment")

// uvVersion is installed when there is no uv on PATH; wandbVersion is added when WANDB_API_KEY is set.
const (
	uvVersion    = "uv==0.13.9"
	wandbVersion = "wandb==0.31.0"
)

const modulePath = "module github.com/persona-gguf/persona-gguf\n"

// DefaultCacheDir is where uv and the environment are kept: .cache/python of the checkout that the program lies in,
// else a folder in the user's cache.
func DefaultCacheDir() (string, error) {
	if program, err := os.Executable(); err == nil {
		for dir := filepath.Dir(program); ; dir = filepath.Dir(dir) {
			if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(text, []byte(modulePath)) {
				return filepath.Join(dir, ".cache", "python"), nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: cache folder: %w", ErrEnvironment, err)
	}
	return filepath.Join(dir, "persona-gguf", "python"), nil
}

// environment is an interpreter with the packages, and the trainer as a file.
type environment struct{ python, script string }

// Environment is what is there for training, as far as a look without the network shows.
type Environment struct {
	Ready  bool   `json:"ready"`  // the environment is set up
	Python string `json:"python"` // its interpreter, if it is ready
	UV     string `json:"uv"`     // on PATH or in the cache; "" if it would be installed first
	Base   string `json:"base"`   // the Python that would install uv; "" if there is none
	Dir    string `json:"dir"`    // the cache folder
}

// Missing says what must be there before training can set itself up, "" if nothing is.
func (e Environment) Missing() string {
	if e.Ready || e.UV != "" || e.Base != "" {
		return ""
	}
	return "uv or python3 on PATH"
}

// Look reports what is there. env is the environment of the process; cacheDir "" is the default one.
func Look(cacheDir string, env []string) Environment {
	if cacheDir == "" {
		cacheDir, _ = DefaultCacheDir() // without one nothing is found in it
	}
	e := &setup{dir: cacheDir, env: env}
	found := Environment{Dir: cacheDir, UV: e.findUV(), Base: e.lookPath("python3", "python")}
	if found.Python = e.ready(); found.Python != "" {
		found.Ready = true
	}
	return found
}

// setup is the work of making an environment.
type setup struct {
	dir string
	env []string
	say func(format string, args ...any)
}

// Prepare makes the environment ready, which takes the package registry the first time and nothing afterwards, and
// returns its interpreter. Several processes may do so at once.
func Prepare(ctx context.Context, o *Options) (string, error) {
	e, err := prepare(ctx, o)
	return e.python, err
}

func prepare(ctx context.Context, o *Options) (environment, error) {
	s := &setup{dir: o.CacheDir, env: o.Env, say: o.info}
	if s.dir == "" {
		var err error
		if s.dir, err = DefaultCacheDir(); err != nil {
			return environment{}, err
		}
	}
	e, err := s.run(ctx, o.Python)
	if err != nil {
		return e, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	return e, nil
}

func (s *setup) run(ctx context.Context, python string) (e environment, err error) {
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return e, err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return e, err
	}
	unlock, err := lock(filepath.Join(s.dir, ".lock"))
	if err != nil {
		return e, err
	}
	defer unlock()
	if e.script, err = s.writeScript(); err != nil {
		return e, err
	}
	if python != "" {
		e.python = python
		return e, s.check(ctx, e)
	}
	if e.python = s.ready(); e.python != "" {
		return e, nil
	}
	uv := s.findUV()
	if uv == "" {
		if uv, err = s.installUV(ctx); err != nil {
			return e, err
		}
	}
	s.say("setting up PyTorch in %s: several gigabytes, once", s.dir)
	if _, err := s.command(ctx, uv, "sync", "--script", e.script); err != nil {
		return e, err
	}
	out, err := s.command(ctx, uv, "python", "find", "--script", e.script)
	if err != nil {
		return e, err
	}
	e.python = strings.TrimSpace(out)
	if err := s.check(ctx, e); err != nil {
		return e, err
	}
	return e, writeFile(s.stamp(), []byte(e.python+"\n"))
}

// lock waits until no other process has the file.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

var dependencyBlock = regexp.MustCompile(`(?s)# /// script\n.*?# ///\n`)

// source is the trainer, with wandb among its packages if that is asked for.
func (s *setup) source() string {
	if lookEnv(s.env, "WANDB_API_KEY") == "" {
		return trainerSource
	}
	return strings.Replace(trainerSource, "# dependencies = [\n", "# dependencies = [\n#   \""+wandbVersion+"\",\n", 1)
}

// stamp is the file that names the interpreter of a complete environment with these packages.
func (s *setup) stamp() string {
	return filepath.Join(s.dir, "environment-"+sha256Text(dependencyBlock.FindString(s.source()))[:12])
}

func (s *setup) ready() string {
	text, err := os.ReadFile(s.stamp())
	if err != nil {
		return ""
	}
	python := strings.TrimSpace(string(text))
	if _, err := os.Stat(python); err != nil {
		return ""
	}
	return python
}

// writeScript puts the trainer into a folder named after its content: the file is called trainer.py in any case,
// since uv names the environment after it.
func (s *setup) writeScript() (string, error) {
	source := s.source()
	path := filepath.Join(s.dir, "trainer-"+sha256Text(source)[:12], "trainer.py")
	if old, err := os.ReadFile(path); err == nil && string(old) == source {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, writeFile(path, []byte(source))
}

func writeFile(path string, text []byte) error {
	f, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Commit()
}

// lookPath finds a program on the PATH of env.
func (s *setup) lookPath(names ...string) string {
	for _, name := range names {
		for _, dir := range filepath.SplitList(lookEnv(s.env, "PATH")) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	return ""
}

func (s *setup) findUV() string {
	if uv := s.lookPath("uv"); uv != "" {
		return uv
	}
	for _, path := range []string{filepath.Join(s.dir, "uv", "bin", "uv"), filepath.Join(s.dir, "uv-target", "bin", "uv")} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// installUV puts uv into the cache: into a virtual environment, or, where Python has no venv, into a folder of
// its own. The system's Python stays as it is.
func (s *setup) installUV(ctx context.Context) (string, error) {
	python := s.lookPath("python3", "python")
	if python == "" {
		return "", errors.New("got neither uv nor python3 on PATH, want one of them")
	}
	s.say("installing %s into %s", uvVersion, s.dir)
	venv := filepath.Join(s.dir, "uv")
	_, err := s.command(ctx, python, "-m", "venv", "--clear", venv)
	if err == nil {
		_, err = s.command(ctx, filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", uvVersion)
	}
	if err != nil {
		os.RemoveAll(venv)
		_, second := s.command(ctx, python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", filepath.Join(s.dir, "uv-target"), uvVersion)
		err = errors.Join(err, second)
		if second == nil {
			err = nil
		}
	}
	if uv := s.findUV(); err == nil && uv != "" {
		return uv, nil
	}
	return "", fmt.Errorf("install uv: %w", err)
}

// check has the interpreter say which packages are missing.
func (s *setup) check(ctx context.Context, e environment) error {
	out, err := s.command(ctx, e.python, e.script, "check")
	if err != nil {
		return err
	}
	var found struct{ Missing []string }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return fmt.Errorf("%s: check: got %q, want JSON", e.python, shorten(out))
	}
	if len(found.Missing) > 0 {
		return fmt.Errorf("%s: got no %s, want the packages that trainer.py names", e.python, strings.Join(found.Missing, ", "))
	}
	return nil
}

// command runs a program and returns what it prints; an error has the end of what it said.
func (s *setup) command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env
	if lookEnv(s.env, "UV_CACHE_DIR") == "" {
		cmd.Env = append(append([]string{}, s.env...), "UV_CACHE_DIR="+filepath.Join(s.dir, "cache"))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := newScrubber(s.env).Replace(shorten(stderr.String()))
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}

// shorten keeps the end of a program's words.
func shorten(text string) string {
	const most = 600
	text = strings.TrimSpace(text)
	if runes := []rune(text); len(runes) > most {
		return "…" + string(runes[len(runes)-most:])
	}
	return text
}
