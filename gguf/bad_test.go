package gguf

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the files of testdata/bad again")

// badFiles holds one file per way to be wrong. testdata/bad/NAME.gguf has the
// same bytes; want is the error without its beginning "open gguf PATH: ".
var badFiles = []struct {
	name  string
	bytes raw
	want  string
}{
	{"empty", nil, `magic: truncated: got 0 bytes at offset 0, want 4`},
	{"magic-short", raw("GGU"), `magic: truncated: got 3 bytes at offset 0, want 4`},
	{"magic-wrong", append(raw("JUNK"), good()[4:]...), `magic: got "JUNK", want "GGUF"`},
	{"magic-lower-case", append(raw("gguf"), good()[4:]...), `magic: got "gguf", want "GGUF"`},
	{"version-missing", raw("GGUF"), `version: truncated: got 0 bytes at offset 4, want 4`},
	{"version-0", raw("GGUF").u32(0).u64(0, 0), `version: got 0, want 2 or 3`},
	{"version-1", raw("GGUF").u32(1, 0, 0), `version: got 1, want 2 or 3 (version 1 is unsupported, in llama.cpp too)`},
	{"version-4", raw("GGUF").u32(4).u64(0, 0), `version: got 4, want 2 or 3`},
	{"big-endian", raw("GGUF").u32(3<<24).u64(0, 0), `version: got 0x03000000, want 2 or 3 (a big-endian file is unsupported)`},
	{"counts-missing", raw("GGUF").u32(3), `number of tensors: truncated: got 0 bytes at offset 8, want 8`},
	{"tensor-count-minus-1", head(math.MaxUint64, 0), `number of tensors: got 18446744073709551615, want at most 1048576`},
	{"tensor-count-beyond-file", head(1000, 0), `number of tensors: got 1000, want at most 0 in the 8 bytes left`},
	{"key-count-minus-1", head(0, math.MaxUint64), `number of keys: got 18446744073709551615, want at most 65536`},
	{"key-count-beyond-file", head(0, 2).kvU32("k", 1), `number of keys: got 2, want at most 1 in the 17 bytes left`},
	{"key-length-minus-1", head(0, 1).u64(math.MaxUint64).data(1, 20), `key 0: string length: got 18446744073709551615, want at most 65535`},
	{"key-length-beyond-file", head(0, 1).u64(100).data(1, 20), `key 0: string length: got 100, want at most 20 in the 20 bytes left`},
	{"key-empty", head(0, 1).kvU32("", 1).data(1, 8), `key 0: key: got an empty string, want 1 to 65535 bytes`},
	{"key-not-utf8", head(0, 1).kvU32("\xff", 1), `key 0: key "\xff": got bytes that are not UTF-8, want UTF-8`},
	{"key-nul", head(0, 1).kvU32("a\x00b", 1), `key 0: key "a\x00b": got a NUL byte, want none`},
	{"key-twice", head(0, 2).kvU32("k", 1).kvU32("k", 2), `key 1: "k": got it a second time, want every key once`},
	{"value-type-13", head(0, 1).str("k").u32(13, 0), `key "k": value type: got 13, want 0 to 12`},
	{"value-type-missing", head(0, 1).str("key-long-enough"), `key "key-long-enough": value type: truncated: got 0 bytes at offset 47, want 4`},
	{"value-truncated", head(0, 1).str("kkkkkk").u32(uint32(TypeUint64), 0), `key "kkkkkk": truncated: got 4 bytes at offset 42, want 8`},
	{"bool-2", append(head(0, 1).str("kk").u32(uint32(TypeBool)), 2), `key "kk": bool: got byte 2, want 0 or 1`},
	{"string-length-beyond-file", head(0, 1).str("k").u32(uint32(TypeString)).u64(9), `key "k": string length: got 9, want at most 0 in the 0 bytes left`},
	{"string-length-minus-1", head(0, 1).str("k").u32(uint32(TypeString)).u64(math.MaxUint64), `key "k": string length: got 18446744073709551615, want at most 67108864`},
	{"array-of-arrays", head(0, 1).str("k").u32(uint32(TypeArray), uint32(TypeArray)).u64(0), `key "k": array: got arrays as elements, want single values (nested arrays are unsupported, in llama.cpp too)`},
	{"array-type-13", head(0, 1).str("k").u32(uint32(TypeArray), 13).u64(0), `key "k": array: value type: got 13, want 0 to 12`},
	{"array-length-minus-1", head(0, 1).str("k").u32(uint32(TypeArray), uint32(TypeUint8)).u64(math.MaxUint64), `key "k": array length: got 18446744073709551615, want at most 16777216`},
	{"array-length-beyond-file", head(0, 1).str("k").u32(uint32(TypeArray), uint32(TypeUint32)).u64(3).u32(1, 2), `key "k": array length: got 3, want at most 2 in the 8 bytes left`},
	{"array-strings-beyond-file", head(0, 1).str("k").u32(uint32(TypeArray), uint32(TypeString)).u64(3).u64(0, 0), `key "k": array length: got 3, want at most 2 in the 16 bytes left`},
	{"array-string-truncated", head(0, 1).str("k").u32(uint32(TypeArray), uint32(TypeString)).u64(2).str("x").u64(5), `key "k": element 1: string length: got 5, want at most 0 in the 0 bytes left`},
	{"array-bool-2", append(head(0, 1).str("k").u32(uint32(TypeArray), uint32(TypeBool)).u64(2), 1, 2), `key "k": element 1: bool: got byte 2, want 0 or 1`},
	{"alignment-type", head(0, 1).str("general.alignment").u32(uint32(TypeUint64)).u64(32), `key "general.alignment": got a value of type uint64, want uint32`},
	{"alignment-0", head(0, 1).kvU32("general.alignment", 0), `key "general.alignment": alignment: got 0, want a power of two up to 2097152`},
	{"alignment-24", head(0, 1).kvU32("general.alignment", 24), `key "general.alignment": alignment: got 24, want a power of two up to 2097152`},
	{"alignment-2-to-the-22", head(0, 1).kvU32("general.alignment", 1<<22), `key "general.alignment": alignment: got 4194304, want a power of two up to 2097152`},
	{"alignment-not-respected", head(2, 1).kvU32("general.alignment", 64).tensor("a", F32, 0, 8).tensor("b", F32, 32, 8).data(64, 128), `tensor "b": offset: got 32, want 64 (not a multiple of the alignment 64)`},
	{"tensor-missing", head(2, 0).tensor("a", F32, 0, 8).u64(1<<60).data(1, 32), `tensor 1: name: string length: got 1152921504606846976, want at most 63`},
	{"tensor-name-too-long", head(1, 0).tensor(strings.Repeat("n", 64), F32, 0, 8).data(32, 32), `tensor 0: name: string length: got 64, want at most 63`},
	{"tensor-name-empty", head(1, 0).tensor("", F32, 0, 8).data(32, 32), `tensor 0: tensor name: got an empty string, want 1 to 63 bytes`},
	{"tensor-name-nul", head(1, 0).tensor("a\x00", F32, 0, 8).data(32, 32), `tensor 0: tensor name "a\x00": got a NUL byte, want none`},
	{"tensor-twice", head(2, 0).tensor("a", F32, 0, 8).tensor("a", F32, 32, 8).data(32, 64), `tensor 1: "a": got it a second time, want every name once`},
	{"dimensions-5", head(1, 0).tensor("a", F32, 0, 1, 1, 1, 1, 1).data(32, 32), `tensor 0: "a": dimensions: got 5, want at most 4`},
	{"dimensions-missing", head(1, 0).str("a-name-long-enough-for-it-all"), `tensor 0: "a-name-long-enough-for-it-all": dimensions: truncated: got 0 bytes at offset 61, want 4`},
	{"ne-missing", head(1, 0).str("a-name-long-enough").u32(2).u64(1), `tensor 0: "a-name-long-enough": ne[1]: truncated: got 0 bytes at offset 62, want 8`},
	{"ne-0", head(1, 0).tensor("a", F32, 0, 8, 0), `tensor 0: tensor "a": ne[1]: got 0, want at least 1`},
	{"ne-minus-1", head(1, 0).tensor("a", F32, 0, math.MaxUint64), `tensor 0: "a": ne[0]: got 18446744073709551615, want less than 2^63`},
	{"elements-overflow", head(1, 0).tensor("a", F32, 0, 1<<32, 1<<32), `tensor 0: tensor "a": ne [4294967296 4294967296]: number of elements does not fit 63 bits`},
	{"bytes-overflow", head(1, 0).tensor("a", F64, 0, 1<<30, 1<<31), `tensor 0: tensor "a": ne [1073741824 2147483648] of f64: size in bytes does not fit 63 bits`},
	{"row-overflow", head(1, 0).tensor("a", F64, 0, 1<<62), `tensor 0: tensor "a": row of f64: 4611686018427387904 elements: size in bytes does not fit 63 bits`},
	{"type-43", head(1, 0).tensor("a", 43, 0, 32).data(32, 32), `tensor 0: tensor "a": tensor type: got 43, want a type of llama.cpp v0.5.0`},
	{"type-removed", head(1, 0).tensor("a", 4, 0, 32).data(32, 32), `tensor 0: tensor "a": tensor type: got 4, want a type of llama.cpp v0.5.0`},
	{"type-missing", head(1, 0).str("a-name-long").u32(1).u64(1), `tensor 0: "a-name-long": truncated: got 0 bytes at offset 55, want 12`},
	{"row-not-whole-blocks", head(1, 0).tensor("a", Q4_0, 0, 48).data(32, 32), `tensor 0: tensor "a": row of q4_0: got 48 elements, want a positive multiple of 32`},
	{"offset-first-not-0", head(1, 0).tensor("a", F32, 32, 8).data(32, 64), `tensor "a": offset: got 32, want 0 (leaves a gap)`},
	{"offset-overlap", head(2, 0).tensor("a", F32, 0, 16).tensor("b", F32, 32, 8).data(32, 96), `tensor "b": offset: got 32, want 64 (overlaps the tensor before it)`},
	{"offset-unaligned", head(2, 0).tensor("a", F32, 0, 3).tensor("b", F32, 12, 8).data(32, 64), `tensor "b": offset: got 12, want 32 (not a multiple of the alignment 32)`},
	{"offset-gap", head(2, 0).tensor("a", F32, 0, 8).tensor("b", F32, 64, 8).data(32, 96), `tensor "b": offset: got 64, want 32 (leaves a gap)`},
	{"end-overflow", head(2, 0).tensor("a", I8, 0, 1<<62).tensor("b", I8, 1<<62, 1<<62-1).data(32, 32), `tensor "b": end of data at 96 + 4611686018427387904 + 4611686018427387903 bytes does not fit 63 bits`},
	{"data-truncated", good()[:len(good())-33], `tensor "b.weight": truncated: got a file of 319 bytes, want 324 for this tensor and 324 in all`},
	{"data-missing", head(1, 0).tensor("a", F32, 0, 1<<40), `tensor "a": truncated: got a file of 57 bytes, want 4398046511168 for this tensor and 4398046511168 in all`},
	{"trailing-bytes", append(good(), 0), `trailing bytes: got a file of 353 bytes, want 352`},
	{"trailing-bytes-no-tensors", head(0, 0).data(32, 1), `trailing bytes: got a file of 33 bytes, want 32`},
}

func TestBadFiles(t *testing.T) {
	dir := filepath.Join("testdata", "bad")
	if *update {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for _, bad := range badFiles {
			if err := os.WriteFile(filepath.Join(dir, bad.name+".gguf"), bad.bytes, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(badFiles) {
		t.Errorf("%s: got %d files, want %d, one for each entry of badFiles", dir, len(entries), len(badFiles))
	}
	for _, bad := range badFiles {
		t.Run(bad.name, func(t *testing.T) {
			path := filepath.Join(dir, bad.name+".gguf")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, bad.bytes) {
				t.Fatalf("%s: got other bytes than badFiles, want the same (go test -update writes them)", path)
			}
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatalf("got no error, want %s", bad.want)
			}
			if want := "open gguf " + path + ": " + bad.want; err.Error() != want {
				t.Errorf("got error\n%s\nwant\n%s", err, want)
			}
			if got, want := errors.Is(err, ErrMagic), strings.HasPrefix(bad.want, "magic: "); got != want {
				t.Errorf("is ErrMagic: got %v, want %v", got, want)
			}
		})
	}
}

// TestTruncated cuts a good file at every byte: only the padding at the end may be missing.
func TestTruncated(t *testing.T) {
	b := good()
	end := len(b) - 28 // 68 bytes of b.weight are padded to 96
	for n := range len(b) + 1 {
		_, err := parseFile(bytes.NewReader(b[:n]), int64(n))
		if ok := err == nil; ok != (n >= end) {
			t.Errorf("file cut at byte %d of %d: got error %v, want one before byte %d only", n, len(b), err, end)
		}
	}
}

// TestShrinkingFile has a file end before the size that it had when it was opened.
func TestShrinkingFile(t *testing.T) {
	b := good()
	if _, err := parseFile(bytes.NewReader(b[:20]), int64(len(b))); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("header: got error %v, want unexpected EOF", err)
	}
	path := writeTemp(t, "x.gguf", b)
	f := mustOpen(t, path)
	if err := os.Truncate(path, 200); err != nil {
		t.Fatal(err)
	}
	tensor, _ := f.Tensor("b.weight")
	if err := f.ReadTensorAt(tensor, make([]byte, 68), 0); err == nil || !strings.Contains(err.Error(), `x.gguf: tensor "b.weight": read 68 bytes at offset 256: unexpected EOF`) {
		t.Errorf("data: got error %v, want unexpected EOF", err)
	}
}

// TestHugeClaims opens a file that has, as a sparse file, room for what it
// claims: the named limits must stop it before memory is allocated.
func TestHugeClaims(t *testing.T) {
	for _, elem := range []ValueType{TypeUint8, TypeString, TypeFloat64} {
		path := writeTemp(t, "sparse.gguf", head(0, 1).str("k").u32(uint32(TypeArray), uint32(elem)).u64(MaxArrayLen+1))
		if err := os.Truncate(path, 1<<40); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "array length: got 16777217, want at most 16777216") {
			t.Errorf("array of %s: got error %v, want the limit", elem, err)
		}
	}
}

func TestOpenNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fifo:                              "open gguf " + fifo + ": got p---------, want a regular file",
		dir:                               "open gguf " + dir + ": got d---------, want a regular file",
		filepath.Join(dir, "absent.gguf"): "open gguf " + filepath.Join(dir, "absent.gguf") + ": no such file or directory",
	} {
		if _, err := Open(path); err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}
