package llama

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// likeliestOnly makes a prediction a function of model and prompt.
var likeliestOnly = []PredictOption{SetTemperature(0), SetPenalty(1), SetThreads(1)}

// write writes a tiny model into a folder of the test.
func write(t *testing.T, m *tinymodel.Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// open loads a model for the length of the test.
func open(t *testing.T, path string, opts ...ModelOption) *LLama {
	t.Helper()
	l, err := New(path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Free)
	return l
}

// random loads a model whose answers depend on the whole prompt.
func random(t *testing.T, opts ...ModelOption) *LLama {
	t.Helper()
	return open(t, write(t, tinymodel.Random(tinymodel.Options{})), append([]ModelOption{SetContext(256)}, opts...)...)
}

// chain loads a model that continues a text letter by letter as follows says:
// "abc" makes a, b, c, a, b, c, …; End is the end of an answer.
func chain(t *testing.T, cycle []string, opts ...ModelOption) *LLama {
	t.Helper()
	return open(t, write(t, chainModel(cycle)), append([]ModelOption{SetContext(256)}, opts...)...)
}

func chainModel(cycle []string) *tinymodel.Model {
	return tinymodel.Chain(tinymodel.Options{}, 40, func(token string) string {
		i := slices.Index(cycle, token)
		return cycle[(i+1)%len(cycle)] // any other text is followed by the first
	})
}

// predict must succeed.
func predict(t *testing.T, l *LLama, text string, opts ...PredictOption) string {
	t.Helper()
	got, err := l.Predict(text, slices.Concat(likeliestOnly, opts)...)
	if err != nil {
		t.Fatalf("predict %q: %v", text, err)
	}
	return got
}
