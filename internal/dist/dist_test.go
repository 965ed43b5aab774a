// Package dist_test proves what build.sh promises: that it fetches the right source or nothing, and that the
// tarball of `./build.sh dist`, unpacked in any folder on a machine without toolchain or build tree, has all
// that the program needs to convert, quantize and answer.
package dist_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

var machine = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]

// wantVariants are CPU backends that must be there, the weakest and the strongest among them.
var wantVariants = map[string][]string{
	"amd64": {"x64", "sse42", "haswell", "skylakex", "icelake", "zen4", "sapphirerapids"},
	"arm64": {"armv8.0_1", "armv8.2_1", "armv8.6_1", "armv9.2_1"},
}

func repoRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// unpack puts the tarball's one folder into a fresh place and returns its path.
func unpack(t *testing.T) string {
	t.Helper()
	name := "persona-gguf-linux-" + machine
	tarball := filepath.Join(repoRoot(t), "dist", name+".tar.gz")
	if _, err := os.Stat(tarball); err != nil {
		t.Fatalf("%v; run ./build.sh dist first (./build.sh test does)", err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xzf", tarball).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", tarball, err, out)
	}
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(filepath.Join(dir, name), moved); err != nil {
		t.Fatal(err)
	}
	return moved
}

// elfFiles calls f for every program and library below dir.
func elfFiles(t *testing.T, dir string, f func(path string, file *elf.File)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := elf.Open(path)
		var format *elf.FormatError
		if errors.As(err, &format) || errors.Is(err, io.EOF) {
			return nil // not a program: a licence, a README
		}
		if err != nil {
			return err
		}
		defer file.Close()
		f(path, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRunPathsAreRelative(t *testing.T) {
	moved := unpack(t)
	seen := 0
	elfFiles(t, moved, func(path string, file *elf.File) {
		seen++
		for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
			values, err := file.DynString(tag)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			for _, entry := range strings.FieldsFunc(strings.Join(values, ":"), func(r rune) bool { return r == ':' }) {
				if !strings.HasPrefix(entry, "$ORIGIN") {
					t.Errorf("%s: %v: got %q, want entries that begin with $ORIGIN", path, tag, entry)
				}
			}
		}
	})
	if seen < 8 {
		t.Errorf("%s: got %d programs and libraries, want at least 8", moved, seen)
	}
	program, err := os.ReadFile(filepath.Join(moved, "bin", "persona-gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(program, []byte(repoRoot(t)+"/")) {
		t.Errorf("bin/persona-gguf contains the path of the build tree, %s", repoRoot(t))
	}
}

func TestEveryCPUVariantIsThere(t *testing.T) {
	moved := unpack(t)
	for _, variant := range wantVariants[runtime.GOARCH] {
		if _, err := os.Stat(filepath.Join(moved, "lib", "libggml-cpu-"+variant+".so")); err != nil {
			t.Error(err)
		}
	}
}

// jail makes moved a root directory with nothing but the C library beside our own files, and returns
// a function that runs the moved program inside it: the build tree cannot be reached from there.
func jail(t *testing.T, moved string) func(args ...string) (string, error) {
	t.Helper()
	copyFile := func(from, to string) {
		t.Helper()
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	program, err := elf.Open(filepath.Join(moved, "bin", "persona-gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	loader := make([]byte, program.Section(".interp").Size-1)
	if _, err := program.Section(".interp").ReadAt(loader, 0); err != nil {
		t.Fatal(err)
	}
	copyFile(string(loader), filepath.Join(moved, string(loader)))
	for _, lib := range []string{"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"} {
		out, err := exec.Command("cc", "-print-file-name="+lib).Output()
		if path := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(path) {
			copyFile(path, filepath.Join(moved, "lib", lib))
		}
	}
	return func(args ...string) (string, error) {
		cmd := exec.Command("/bin/persona-gguf", args...)
		cmd.Env, cmd.Dir = []string{"PATH=/bin"}, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: moved}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return "", errors.New(err.Error() + "\n" + stderr.String())
		}
		return stdout.String(), nil
	}
}

func TestWorksWithTheBuildTreeOutOfReach(t *testing.T) {
	moved := unpack(t)
	writeModel(t, filepath.Join(moved, "model"))
	run := jail(t, moved)
	for _, args := range [][]string{
		{"doctor"},
		{"convert", "/model", "--outtype", "f16", "--outfile", "/f16.gguf"},
		{"quantize", "/f16.gguf", "/q8_0.gguf", "q8_0"},
		{"inspect", "/q8_0.gguf"},
	} {
		if _, err := run(args...); err != nil {
			t.Fatalf("persona-gguf %s: %v", strings.Join(args, " "), err)
		}
	}
	out, err := run("chat", "-m", "/q8_0.gguf", "-p", "hello", "--num_predict", "4", "--temperature", "0", "--json")
	if err != nil {
		t.Fatalf("chat: %v", err)
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("chat --json: %v in %q", err, out)
	}
}

func writeModel(t *testing.T, dir string) {
	t.Helper()
	for _, spec := range testmodel.Specs() {
		if strings.HasPrefix(spec.Name, "qwen3") {
			if err := testmodel.Write(dir, spec); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("testmodel: no qwen3 spec")
}
