package safetensors

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the files of testdata/bad again")

// file makes a file by hand: the length, the header as it is, and n telling bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range n {
		b = append(b, byte(i*7+1))
	}
	return b
}

// length makes a file with any number as its header length.
func length(n uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
}

const goodHeader = `{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"a":{"dtype":"BF16","shape":[5],"data_offsets":[24,34]}}`

func good() []byte { return file(goodHeader, 34) }

// one makes the header entry of one tensor a of type F32.
func one(shape, offsets string) string {
	return `{"a":{"dtype":"F32","shape":` + shape + `,"data_offsets":` + offsets + `}}`
}

// badFiles holds one file per way to be wrong. testdata/bad/NAME.safetensors
// has the same bytes; want is the error without its beginning "open safetensors PATH: ".
var badFiles = []struct {
	name  string
	bytes []byte
	want  string
}{
	{"empty", nil, `truncated: got a file of 0 bytes, want at least 8`},
	{"length-short", []byte("1234567"), `truncated: got a file of 7 bytes, want at least 8`},
	{"length-0", length(0, ""), `header: got 0 bytes, want a JSON object`},
	{"length-minus-1", length(1<<64-1, goodHeader), `header length: got 18446744073709551615 bytes, want at most 100000000`},
	{"length-2-to-the-46", length(1<<46, goodHeader), `header length: got 70368744177664 bytes, want at most 100000000`},
	{"length-100-MB-and-1", length(100_000_001, goodHeader), `header length: got 100000001 bytes, want at most 100000000`},
	{"length-beyond-file", length(3, "{}"), `header length: got 3 bytes, want at most the 2 that are left`},
	{"length-too-small", length(5, goodHeader), `header: json at byte 1: unexpected EOF`},
	{"not-an-object", file(`["a"]`, 0), `header: got "[" as its first byte, want "{"`},
	{"white-space-first", file(` {}`, 0), `header: got " " as its first byte, want "{"`},
	{"byte-order-mark", file("\ufeff{}", 0), `header: got "\xef" as its first byte, want "{"`},
	{"not-utf8", file("{\"a\xff\":{}}", 0), `header: got bytes that are not UTF-8, want UTF-8`},
	{"not-json", file(`{"a":}`, 0), `header: "a": json at byte 5: invalid character '}' looking for beginning of value`},
	{"comma-at-the-end", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}`, 4), `header: json at byte 54: invalid character '}' looking for beginning of object key string`},
	{"two-objects", file(`{}{}`, 0), `header: got "{" after the object, want nothing`},
	{"nul-padding", file("{}\x00\x00", 0), `header: json at byte 2: invalid character '\x00' looking for beginning of value`},
	{"metadata-twice", file(`{"__metadata__":{},"__metadata__":{}}`, 0), `header: key "__metadata__": got it a second time, want every key once`},
	{"metadata-key-twice", file(`{"__metadata__":{"k":"1","k":"2"}}`, 0), `header: "__metadata__": key "k": got it a second time, want every key once`},
	{"metadata-number", file(`{"__metadata__":{"k":1}}`, 0), `header: "__metadata__": "k": got the number 1, want a string`},
	{"metadata-null", file(`{"__metadata__":null}`, 0), `header: "__metadata__": got null, want "{"`},
	{"metadata-nested", file(`{"__metadata__":{"k":{}}}`, 0), `header: "__metadata__": "k": got "{", want a string`},
	{"tensor-twice", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), `header: key "a": got it a second time, want every key once`},
	{"tensor-name-empty", file(`{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `header: "": got an empty tensor name, want a name`},
	{"tensor-is-list", file(`{"a":[]}`, 0), `header: "a": got "[", want "{"`},
	{"field-twice", file(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `header: "a": key "dtype": got it a second time, want every key once`},
	{"field-missing", file(`{"a":{"dtype":"F32","shape":[1]}}`, 4), `header: "a": got 2 fields, want dtype, shape and data_offsets`},
	{"field-unknown", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}}`, 4), `header: "a": "stride": got an unknown field, want dtype, shape and data_offsets`},
	{"dtype-unknown", file(`{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, 4), `header: "a": dtype: got "F33", want one of BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64`},
	{"dtype-number", file(`{"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}}`, 4), `header: "a": "dtype": got the number 1, want a string`},
	{"dtype-lower-case", file(`{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}`, 4), `header: "a": dtype: got "f32", want one of BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64`},
	{"shape-negative", file(one("[-1]", "[0,4]"), 4), `header: "a": "shape": element 0: got -1, want a whole number from 0 to 2^63-1`},
	{"shape-fraction", file(one("[1.0]", "[0,4]"), 4), `header: "a": "shape": element 0: got 1.0, want a whole number from 0 to 2^63-1`},
	{"shape-exponent", file(one("[1e0]", "[0,4]"), 4), `header: "a": "shape": element 0: got 1e0, want a whole number from 0 to 2^63-1`},
	{"shape-too-large", file(one("[9223372036854775808]", "[0,4]"), 4), `header: "a": "shape": element 0: got 9223372036854775808, want a whole number from 0 to 2^63-1`},
	{"shape-string", file(one(`["1"]`, "[0,4]"), 4), `header: "a": "shape": element 0: got the string "1", want a number`},
	{"shape-number", file(one("1", "[0,4]"), 4), `header: "a": "shape": got the number 1, want "["`},
	{"shape-overflow", file(one("[4294967296,4294967296]", "[0,0]"), 0), `header: "a": shape [4294967296 4294967296] of F32: size in bits does not fit 63 bits`},
	{"shape-overflow-hidden-by-0", file(one("[4294967296,4294967296,0]", "[0,0]"), 0), `header: "a": shape [4294967296 4294967296 0] of F32: size in bits does not fit 63 bits`},
	{"shape-65-dimensions", file(one("["+strings.Repeat("1,", 64)+"1]", "[0,4]"), 4), `header: "a": "shape": got more than 64 elements, want at most that many`},
	{"shape-disagrees-with-range", file(one("[2,2]", "[0,12]"), 12), `header: "a": data_offsets: got 12 bytes, want 16 for shape [2 2] of F32`},
	{"shape-half-a-byte", file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}`, 2), `header: "a": shape [3] of F4: got 12 bits, want whole bytes`},
	{"offsets-one", file(one("[1]", "[4]"), 4), `header: "a": "data_offsets": got 1 numbers, want 2`},
	{"offsets-three", file(one("[1]", "[0,4,8]"), 4), `header: "a": "data_offsets": got more than 2 elements, want at most that many`},
	{"offsets-reversed", file(one("[1]", "[4,0]"), 4), `header: "a": "data_offsets": got 4 to 0, want a range`},
	{"offsets-negative", file(one("[1]", "[-4,0]"), 4), `header: "a": "data_offsets": element 0: got -4, want a whole number from 0 to 2^63-1`},
	{"offsets-overflow", file(one("[1]", "[9223372036854775803,9223372036854775807]"), 4), `header: "a": "data_offsets": got an end at 9223372036854775807, want it inside a file`},
	{"hole-first", file(one("[1]", "[4,8]"), 8), `tensor "a": hole: got data from byte 66, want it from 62 of the file`},
	{"hole-between", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12), `tensor "b": hole: got data from byte 124, want it from 120 of the file`},
	{"overlap", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), `tensor "b": overlap: got data from byte 119, want it from 123 of the file`},
	{"same-range-twice", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `tensor "b": overlap: got data from byte 115, want it from 119 of the file`},
	{"data-truncated", good()[:len(good())-1], `tensor "a": truncated: got a file of 185 bytes, want 186`},
	{"data-missing", file(one("[1099511627776]", "[0,4398046511104]"), 0), `tensor "a": truncated: got a file of 86 bytes, want 4398046511190`},
	{"trailing-bytes", append(good(), 0), `trailing bytes: got a file of 187 bytes, want 186`},
	{"trailing-bytes-no-tensors", file("{}", 1), `trailing bytes: got a file of 11 bytes, want 10`},
}

func TestBadFiles(t *testing.T) {
	dir := filepath.Join("testdata", "bad")
	if *update {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for _, bad := range badFiles {
			if err := os.WriteFile(filepath.Join(dir, bad.name+".safetensors"), bad.bytes, 0o666); err != nil {
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
			path := filepath.Join(dir, bad.name+".safetensors")
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
			if want := "open safetensors " + path + ": " + bad.want; err.Error() != want {
				t.Errorf("got error\n%s\nwant\n%s", err, want)
			}
		})
	}
}

// TestTruncated cuts a good file at every byte.
func TestTruncated(t *testing.T) {
	b := good()
	for n := range len(b) + 1 {
		_, _, err := parse(bytes.NewReader(b[:n]), int64(n))
		if ok := err == nil; ok != (n == len(b)) {
			t.Errorf("file cut at byte %d of %d: got error %v", n, len(b), err)
		}
	}
}

// TestShrinkingFile has a file end before the size that it had when it was opened.
func TestShrinkingFile(t *testing.T) {
	b := good()
	for _, n := range []int{4, 20} {
		if _, _, err := parse(bytes.NewReader(b[:n]), int64(len(b))); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("cut at %d: got error %v, want unexpected EOF", n, err)
		}
	}
	path := writeTemp(t, "x.safetensors", b)
	f := mustOpen(t, path)
	if err := os.Truncate(path, 160); err != nil {
		t.Fatal(err)
	}
	tensor, _ := f.Tensor("a")
	if err := tensor.ReadAt(make([]byte, 10), 0); err == nil || !strings.Contains(err.Error(), `x.safetensors: tensor "a": read 10 bytes at offset 176: unexpected EOF`) {
		t.Errorf("data: got error %v, want unexpected EOF", err)
	}
}

func TestOpenNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "absent.safetensors")
	for path, want := range map[string]string{
		fifo:   "open safetensors " + fifo + ": got p---------, want a regular file",
		dir:    "open safetensors " + dir + ": got d---------, want a regular file",
		absent: "open safetensors " + absent + ": no such file or directory",
	} {
		if _, err := Open(path); err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}

func writeTemp(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustOpen(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
