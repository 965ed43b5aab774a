package safetensors

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// FuzzOpen parses any bytes. What parses must be written again and parse to the same.
func FuzzOpen(f *testing.F) {
	f.Add(good())
	for _, bad := range badFiles {
		f.Add(bad.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		metadata, tensors, err := parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		var specs []Spec
		for _, tensor := range tensors {
			if tensor.Begin < 8 || tensor.End < tensor.Begin || tensor.End > int64(len(b)) {
				t.Fatalf("tensor %+v lies outside the file of %d bytes", tensor, len(b))
			}
			specs = append(specs, Spec{tensor.Name, tensor.DType, tensor.Shape})
		}
		var again bytes.Buffer
		err = Write(&again, metadata, specs, WriteOptions{KeepOrder: true}, func(i int, w io.Writer) error {
			_, err := w.Write(b[tensors[i].Begin:tensors[i].End])
			return err
		})
		if err != nil {
			t.Fatalf("file that opens cannot be written: %v", err)
		}
		checkEqual(t, again.Bytes(), metadata, specs, func(i int) []byte { return b[tensors[i].Begin:tensors[i].End] })
	})
}

// checkEqual parses b and compares with what was written.
func checkEqual(t *testing.T, b []byte, metadata map[string]string, specs []Spec, data func(i int) []byte) {
	t.Helper()
	gotMetadata, got, err := parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("file that was written does not open: %v\n%q", err, b)
	}
	if fmt.Sprint(gotMetadata) != fmt.Sprint(metadata) || len(got) != len(specs) {
		t.Fatalf("got %v and %d tensors, want %v and %d", gotMetadata, len(got), metadata, len(specs))
	}
	for i, tensor := range got {
		if tensor.Name != specs[i].Name || tensor.DType != specs[i].DType || fmt.Sprint(tensor.Shape) != fmt.Sprint(specs[i].Shape) || !bytes.Equal(b[tensor.Begin:tensor.End], data(i)) {
			t.Fatalf("tensor %d: got %+v, want %+v", i, tensor, specs[i])
		}
	}
}

// FuzzRoundTrip makes tensors out of any bytes, writes and parses them.
func FuzzRoundTrip(f *testing.F) {
	f.Add("key", "value", []byte("some bytes to choose names, dtypes and shapes from, long enough for several tensors"))
	f.Add("거울\"", "\u2028<>&\x7f\x00", []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 201, 202})
	f.Fuzz(func(t *testing.T, key, value string, b []byte) {
		next := func() (c byte) {
			if len(b) > 0 {
				c, b = b[0], b[1:]
			}
			return c
		}
		var specs []Spec
		for i := range next() % 6 {
			s := Spec{Name: strings.ToValidUTF8(key, "?") + string(rune('a'+i)), DType: dtypeTable[int(next())%len(dtypeTable)].dtype, Shape: []int64{8}}
			for range next() % 4 {
				s.Shape = append(s.Shape, int64(next()%4))
			}
			specs = append(specs, s)
		}
		metadata := map[string]string{strings.ToValidUTF8(key, "?"): strings.ToValidUTF8(value, "?")}
		var out bytes.Buffer
		if err := Write(&out, metadata, specs, WriteOptions{KeepOrder: true}, fillTelling(specs)); err != nil {
			t.Fatal(err)
		}
		checkEqual(t, out.Bytes(), metadata, specs, func(i int) []byte { return telling(specs[i]) })
	})
}

// FuzzIndex parses any bytes as an index: a name of a file must come out for every tensor.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":12},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors"}}`))
	f.Add([]byte(`{"x":[[[[]]]],"weight_map":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseIndex(b)
		if err != nil {
			return
		}
		if len(w.tensors) != len(w.file) {
			t.Fatalf("got %d tensors and %d entries", len(w.tensors), len(w.file))
		}
		for _, name := range w.tensors {
			if _, ok := w.file[name]; !ok {
				t.Fatalf("tensor %q has no file", name)
			}
		}
	})
}
