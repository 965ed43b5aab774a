package filehash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSHA256(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2, appendix B.1
	if sum, size, err := SHA256(path); err != nil || sum != want || size != 3 {
		t.Errorf("got %s, %d, %v, want %s, 3", sum, size, err, want)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "none")} {
		if _, _, err := SHA256(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: got %v, want an error that names it", bad, err)
		}
	}
}
