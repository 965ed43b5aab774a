package dist_test

// What build.sh does before anything is compiled: tools, source, and what it says when something is missing.

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemTools are what build.sh takes for granted, and git's shell scripts with it. The tools that it looks
// for (cmake, ninja, c++, npm, nvcc) are not among them: a test adds those that it wants to be there.
var systemTools = []string{
	"bash", "sh", "git", "go", "tar", "gzip", "basename", "cat", "cp", "cut", "date", "dirname", "env", "expr", "grep", "head",
	"ls", "mkdir", "mktemp", "mv", "rm", "rmdir", "sed", "sleep", "sort", "tail", "timeout", "touch", "tr", "uname", "wc",
}

// llamaTree and llamaCommit are those of llama.cpp v0.5.0, as in build.sh.
const (
	llamaTree   = "fd570ef54b10ec5fecb739e7e04c8ce44a6f415a"
	llamaCommit = "7fe450e19305b828c199d602c23a8337aaa1f03b"
)

// checkout is a clone with nothing but build.sh and the submodule, whose server cannot be reached, and a PATH
// of its own.
type checkout struct {
	t    *testing.T
	dir  string // of the clone
	path string // the only folder in PATH
}

func newCheckout(t *testing.T) *checkout {
	t.Helper()
	c := &checkout{t, filepath.Join(t.TempDir(), "clone"), filepath.Join(t.TempDir(), "bin")}
	script, err := os.ReadFile(filepath.Join(repoRoot(t), "build.sh"))
	if err != nil {
		t.Fatal(err)
	}
	c.write(c.dir, "build.sh", string(script))
	c.write(c.dir, ".gitmodules", "[submodule \"llamacpp\"]\n\tpath = llamacpp\n\turl = "+filepath.Join(c.dir, "no-server")+"\n")
	if err := os.MkdirAll(c.path, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range systemTools {
		tool, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(tool, filepath.Join(c.path, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.tool("id", "echo 1000") // no administrator
	c.git(c.dir, "init", "-q")
	c.git(c.dir, "add", "build.sh", ".gitmodules")
	c.git(c.dir, "update-index", "--add", "--cacheinfo", "160000,"+llamaCommit+",llamacpp")
	c.git(c.dir, "commit", "-q", "-m", "clone")
	if err := os.Mkdir(filepath.Join(c.dir, "llamacpp"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *checkout) write(dir, name, text string) {
	c.t.Helper()
	path := filepath.Join(dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o755)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// tool puts a shell script into PATH, in place of the system's tool if there is one.
func (c *checkout) tool(name, script string) {
	c.t.Helper()
	if err := os.RemoveAll(filepath.Join(c.path, name)); err != nil {
		c.t.Fatal(err)
	}
	c.write(c.path, name, "#!/bin/sh\n"+script+"\n")
}

// compilers puts what a build needs into PATH; cmake fails, so that no build comes about.
func (c *checkout) compilers() {
	c.tool("cmake", "echo 'cmake was called'; exit 1")
	c.tool("ninja", "exit 1")
	c.tool("c++", "exit 1")
}

func (c *checkout) git(dir string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// command is ./build.sh with its output.
func (c *checkout) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	out := &bytes.Buffer{}
	cmd := exec.Command(filepath.Join(c.path, "bash"), append([]string{"build.sh"}, args...)...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), "PATH="+c.path, "CUDACXX=")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	return cmd, out
}

// fails runs ./build.sh, which must fail with all of these in its output.
func (c *checkout) fails(args []string, wants ...string) string {
	c.t.Helper()
	cmd, out := c.command(args...)
	if err := cmd.Run(); err == nil {
		c.t.Errorf("build.sh %q: got no error, want one\n%s", args, out)
	}
	for _, want := range wants {
		if !strings.Contains(out.String(), want) {
			c.t.Errorf("build.sh %q: got output\n%s\nwant in it %q", args, out, want)
		}
	}
	return out.String()
}

// untouched checks that nothing of a fetch is there.
func (c *checkout) untouched() {
	c.t.Helper()
	for pattern, want := range map[string]int{"llamacpp/*": 0, "llamacpp/.git": 0, ".cache/fetch.*": 0, ".cache/tree.*": 0, ".git/modules/llamacpp": 0, "llamacpp": 1} {
		got, err := filepath.Glob(filepath.Join(c.dir, pattern))
		if err != nil || len(got) != want {
			c.t.Errorf("%s: got %q, %v, want %d files", pattern, got, err, want)
		}
	}
}

// source makes a repository that is not llama.cpp's, and gives the hash of its tree.
func (c *checkout) source(dir string) string {
	c.t.Helper()
	c.write(dir, "CMakeLists.txt", "project(other)\n")
	c.git(dir, "init", "-q")
	c.git(dir, "add", "CMakeLists.txt")
	c.git(dir, "commit", "-q", "-m", "source")
	return c.git(dir, "rev-parse", "HEAD^{tree}")
}

// accept has the clone's build.sh want another tree.
func (c *checkout) accept(tree string) {
	c.t.Helper()
	script, err := os.ReadFile(filepath.Join(c.dir, "build.sh"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(c.dir, "build.sh", strings.ReplaceAll(string(script), llamaTree, tree))
}

// npm puts an npm into PATH whose package carries a bundle of other source, and gives the hash of its tree.
func (c *checkout) npm() string {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), "package")
	tree := c.source(filepath.Join(dir, "source"))
	c.write(dir, "llama/README", "")
	c.git(filepath.Join(dir, "source"), "bundle", "create", "-q", filepath.Join(dir, "llama", "gitRelease.bundle"), "HEAD")
	tarball := filepath.Join(filepath.Dir(dir), "package.tgz")
	if out, err := exec.Command("tar", "-C", filepath.Dir(dir), "-czf", tarball, "package/llama").CombinedOutput(); err != nil {
		c.t.Fatalf("tar: %v\n%s", err, out)
	}
	c.tool("npm", "cp "+tarball+" .")
	return tree
}

func TestMissingToolsAreNamed(t *testing.T) {
	c := newCheckout(t)
	out := c.fails(nil, "build.sh: error: missing tools: cmake ninja-build g++ ", "\nhint: sudo apt-get install cmake ninja-build g++\n")
	if got := strings.Count(out, "\n"); got != 2 {
		t.Errorf("got %d lines of output, want 2:\n%s", got, out)
	}
	c.compilers()
	c.fails(nil, "missing tools: npm ", "hint: sudo apt-get install npm\n")
	c.untouched()
	if err := os.Remove(filepath.Join(c.path, "go")); err != nil {
		t.Fatal(err)
	}
	c.fails(nil, "Go is missing", "want 1.26 or newer")
	c.tool("go", "echo go1.25.9")
	c.fails(nil, "Go is too old: got 1.25.9, want 1.26 or newer")
}

func TestRootInstallsMissingTools(t *testing.T) {
	c := newCheckout(t)
	c.compilers()
	if err := os.Remove(filepath.Join(c.path, "cmake")); err != nil {
		t.Fatal(err)
	}
	c.tool("id", "echo 0")
	c.tool("apt-get", `echo "$@" >>apt.log; touch `+filepath.Join(c.path, "cmake")+"; chmod +x "+filepath.Join(c.path, "cmake"))
	c.tool("chmod", `exec /bin/chmod "$@"`)
	c.npm()
	c.fails(nil, "==> install cmake\n    done in ", "wrong source tree")
	log, err := os.ReadFile(filepath.Join(c.dir, "apt.log"))
	if want := "-q update\n-qy install --no-install-recommends cmake\n"; err != nil || string(log) != want {
		t.Errorf("apt-get: got %q, %v, want %q", log, err, want)
	}
}

// TestWrongSource has the folder hold something else: both hashes are named, and the folder stays as it is.
func TestWrongSource(t *testing.T) {
	c := newCheckout(t)
	c.compilers()
	dir := filepath.Join(c.dir, "llamacpp")
	tree := c.source(dir)
	c.fails(nil, "build.sh: error: llamacpp: wrong source tree: got "+tree+", want "+llamaTree)
	if err := os.RemoveAll(filepath.Join(dir, ".git")); err != nil {
		t.Fatal(err)
	}
	c.fails(nil, "wrong source tree: got "+tree+", want "+llamaTree) // a source archive
	if err := os.Rename(filepath.Join(dir, "CMakeLists.txt"), filepath.Join(dir, "notes")); err != nil {
		t.Fatal(err)
	}
	c.fails(nil, "llamacpp: not empty, and not llama.cpp's source")
	if _, err := os.Stat(filepath.Join(dir, "notes")); err != nil {
		t.Error(err)
	}
}

// TestFetchFromThePackage falls back to npm, whose tree is checked before it comes to its place.
func TestFetchFromThePackage(t *testing.T) {
	c := newCheckout(t)
	c.compilers()
	c.tool("npm", "echo 'npm error: no network' >&2; exit 1")
	c.fails(nil, "npm pack node-llama-cpp@3.22.1 failed: npm error: no network")
	c.untouched()
	tree := c.npm()
	c.fails(nil, "node-llama-cpp@3.22.1: wrong source tree: got "+tree+", want "+llamaTree)
	c.untouched()
	c.accept(tree)
	c.fails(nil, "the submodule's server cannot be reached; trying the npm package", "llama.cpp: configure: failed with status 1", "cmake was called")
	c.write(c.dir, "llamacpp/CMakeLists.txt", "changed")
	c.fails(nil, "llamacpp: files differ from v0.5.0:", "CMakeLists.txt", "hint: git -C llamacpp checkout -- .")
}

// TestMovedCheckout builds again after the clone was moved. Like the real one, this cmake refuses a cache that
// another folder made.
func TestMovedCheckout(t *testing.T) {
	c := newCheckout(t)
	c.compilers()
	c.tool("cmake", `if [ "$1" = --build ]; then echo 'cmake compiles'; exit 1; fi
		while [ "$1" != -B ]; do shift; done
		[ ! -e "$2/CMakeCache.txt" ] || grep -qx "$PWD" "$2/CMakeCache.txt" || exit 1
		mkdir -p "$2" && pwd >"$2/CMakeCache.txt" && touch "$2/build.ninja"`)
	tree := c.source(filepath.Join(c.dir, "llamacpp"))
	c.accept(tree)
	c.fails(nil, "==> llama.cpp: configure", "cmake compiles")
	if out := c.fails(nil, "cmake compiles"); strings.Contains(out, "configure") {
		t.Errorf("got it configured again, want that only when something changed:\n%s", out)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(c.dir, moved); err != nil {
		t.Fatal(err)
	}
	c.dir = moved
	c.fails(nil, "==> llama.cpp: configure", "cmake compiles")
}

// TestInterruptedFetchLeavesNothing stops build.sh in the middle of each kind of fetch; one is killed, so that
// the next run has to clear up.
func TestInterruptedFetchLeavesNothing(t *testing.T) {
	submodule := `for arg; do
		if [ "$arg" = update ]; then
			mkdir -p llamacpp .git/modules/llamacpp && touch llamacpp/half .git/modules/llamacpp/half started && exec sleep 60
		fi
	done
	exec REAL "$@"`
	for _, test := range []struct {
		name, tool, script string
		signal             syscall.Signal
	}{
		{"submodule", "git", submodule, syscall.SIGINT},
		{"submodule, ended", "git", submodule, syscall.SIGTERM},
		{"submodule, killed", "git", submodule, syscall.SIGKILL},
		{"package", "npm", "touch half ../../started && exec sleep 60", syscall.SIGINT},
		{"package, killed", "npm", "touch half ../../started && exec sleep 60", syscall.SIGKILL},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCheckout(t)
			c.compilers()
			git, err := exec.LookPath("git")
			if err != nil {
				t.Fatal(err)
			}
			c.tool(test.tool, strings.ReplaceAll(test.script, "REAL", git))
			c.interrupt(test.signal)
			if test.signal == syscall.SIGKILL {
				c.tool("git", `exec `+git+` "$@"`)
				c.tool("npm", "exit 1")
				c.fails(nil, "npm pack node-llama-cpp@3.22.1 failed")
			}
			c.untouched()
		})
	}
}

// interrupt starts ./build.sh and, once the file "started" is there, sends it and its children the signal.
func (c *checkout) interrupt(signal syscall.Signal) {
	c.t.Helper()
	cmd, out := c.command()
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(c.dir, "started")); err == nil {
			break
		}
		select {
		case err := <-ended:
			c.t.Fatalf("build.sh: ended before it was interrupted: %v\n%s", err, out)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := syscall.Kill(-cmd.Process.Pid, signal); err != nil {
		c.t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			c.t.Errorf("build.sh: got no error, want one\n%s", out)
		}
	case <-time.After(30 * time.Second):
		c.t.Errorf("build.sh: got no end within 30 s of the signal\n%s", out)
	}
}

// TestCudaNeedsNvcc has no CUDA toolkit on the machine.
func TestCudaNeedsNvcc(t *testing.T) {
	c := newCheckout(t)
	c.tool("ls", `[ "$1" != -d ] && exec /bin/ls "$@"`)
	c.fails([]string{"cuda"}, "build.sh: error: cuda: nvcc not found", "hint: install the CUDA toolkit, or set CUDACXX=")
	c.fails([]string{"cuda", "llamacpp"}, "cuda: llamacpp: not an unpacked dist: no lib folder in it")
	if _, err := os.Stat(filepath.Join(c.dir, "build")); err == nil {
		t.Error("build: got a folder, want nothing written")
	}
}

func TestUnknownCommand(t *testing.T) {
	c := newCheckout(t)
	c.fails([]string{"biuld"}, "usage: ./build.sh [COMMAND]", "unknown command: biuld")
}
