package meminfo

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestRead(t *testing.T) {
	proc := func(text string) fstest.MapFS { return fstest.MapFS{"meminfo": {Data: []byte(text)}} }
	total, free, err := Read(proc("MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\nHugePages_Total:       0\n"))
	if total != 2<<20 || free != 1<<20 || err != nil {
		t.Errorf("got %d, %d, %v", total, free, err)
	}
	for _, bad := range []fstest.MapFS{{}, proc(""), proc("MemTotal: many kB\n")} {
		if _, _, err := Read(bad); err == nil {
			t.Errorf("%v: got no error", bad)
		}
	}
}

func TestAvailable(t *testing.T) {
	total, _, err := Read(os.DirFS("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	if n := Available(); n <= 0 || n > total {
		t.Errorf("got %d bytes available of %d", n, total)
	}
}
