package llama

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// capture returns what f writes to file descriptors 1 and 2.
func capture(t *testing.T, f func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var saved [2]int
	for i := range saved {
		if saved[i], err = syscall.Dup(i + 1); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(file.Fd()), i+1, 0); err != nil {
			t.Fatal(err)
		}
	}
	func() {
		defer func() {
			for i, fd := range saved {
				_ = syscall.Dup3(fd, i+1, 0)
				syscall.Close(fd)
			}
		}()
		f()
	}()
	data, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
