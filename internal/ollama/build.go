// Package ollama gives tests a real Ollama server: built from the module cache, once, into .cache of the checkout,
// started on a free port of 127.0.0.1 with a model folder of its own, and ended by its own process id.
package ollama

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const module = "github.com/ollama/ollama"

// Build gives the path of the server program, of the version that go.mod requires. The first call on a checkout
// compiles it, which takes some minutes; others that come meanwhile wait. It needs a C++ compiler, and the
// headers in llamacpp/vendor, which the module leaves out.
func Build(ctx context.Context) (string, error) {
	gomod, err := goTool(ctx, "env", "GOMOD")
	if err != nil {
		return "", err
	}
	root := filepath.Dir(gomod)
	version, err := goTool(ctx, "list", "-m", "-f", "{{.Version}}", module)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "ollama")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build ollama: %w", err)
	}
	program := filepath.Join(dir, "ollama-"+version)
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("build ollama: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if _, err := goTool(ctx, "mod", "download", module); err != nil {
		return "", err
	}
	source, err := goTool(ctx, "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "go", "build", "-C", source, "-trimpath",
		"-ldflags", "-X "+module+"/version.Version="+strings.TrimPrefix(version, "v"), "-o", program+".part", ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off", "CGO_CPPFLAGS=-I"+filepath.Join(root, "llamacpp", "vendor"))
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ollama %s: %w\n%s", version, err, out)
	}
	if err := os.Rename(program+".part", program); err != nil {
		return "", fmt.Errorf("build ollama: %w", err)
	}
	return program, nil
}

// goTool runs the go command in the current folder and gives its last line.
func goTool(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	c := exec.CommandContext(ctx, "go", args...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("build ollama: go %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// lock holds the file at path against other processes.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
