package gguf

import (
	"os"
	"path/filepath"
	"testing"
)

// raw builds files by hand, right or wrong, without the code under test.
type raw []byte

func (r raw) u32(vs ...uint32) raw {
	for _, v := range vs {
		r = append(r, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return r
}

func (r raw) u64(vs ...uint64) raw {
	for _, v := range vs {
		r = r.u32(uint32(v), uint32(v>>32))
	}
	return r
}

func (r raw) str(s string) raw { return append(r.u64(uint64(len(s))), s...) }

// head begins a file of version 3.
func head(tensors, kvs uint64) raw { return raw("GGUF").u32(3).u64(tensors, kvs) }

// kvStr, kvU32 and tensor append one entry each.
func (r raw) kvStr(key, v string) raw        { return r.str(key).u32(uint32(TypeString)).str(v) }
func (r raw) kvU32(key string, v uint32) raw { return r.str(key).u32(uint32(TypeUint32), v) }

func (r raw) tensor(name string, t Type, offset uint64, ne ...uint64) raw {
	return r.str(name).u32(uint32(len(ne))).u64(ne...).u32(uint32(t)).u64(offset)
}

// data pads to align and appends n telling bytes.
func (r raw) data(align, n int) raw {
	for len(r)%align != 0 {
		r = append(r, 0)
	}
	for i := range n {
		r = append(r, byte(i*7+1))
	}
	return r
}

// good is a small valid file: two keys, two tensors of 24 and 68 bytes, last padding included.
func good() raw {
	r := head(2, 2).kvStr("general.architecture", "qwen3").str("t.ids").u32(uint32(TypeArray), uint32(TypeInt32)).u64(2).u32(5, 6)
	r = r.tensor("a.weight", F32, 0, 3, 2).tensor("b.weight", Q8_0, 32, 32, 2)
	return r.data(32, 32+96)
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
