package directio

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestOpen: a file system that has no O_DIRECT, or a file that is not there, is told by the error.
func TestOpen(t *testing.T) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if d, err := Open(f, os.O_WRONLY); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, %v, want %v", d, err, errors.ErrUnsupported)
	}
	onDisk, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer onDisk.Close()
	d, err := Open(onDisk, os.O_RDONLY)
	if err == nil {
		err = d.Close()
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want a file or %v", err, errors.ErrUnsupported)
	}
}

func TestSlots(t *testing.T) {
	arena, slots, err := Slots(3, 2*Align)
	if err != nil || len(arena) != 6*Align || len(slots) != 3 {
		t.Fatalf("got %d bytes, %d slots, %v", len(arena), len(slots), err)
	}
	for i, s := range slots {
		if len(s) != 2*Align || cap(s) != 2*Align {
			t.Errorf("slot %d: got %d of %d bytes, want %d", i, len(s), cap(s), 2*Align)
		}
		s[0], s[len(s)-1] = 1, 2
	}
	if arena[2*Align] != 1 || arena[6*Align-1] != 2 {
		t.Error("the slots do not lie in the arena")
	}
	Free(arena)
	Free(nil)
}
