package convert

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

// TestVocabularyGolden converts models with odd tokenizers, and one with the
// real Qwen2 vocabulary, and compares the files with the reference's. The odd
// ones are told what to write as tokenizer.ggml.pre, as the reference was.
func TestVocabularyGolden(t *testing.T) {
	covered := map[string]bool{}
	for _, spec := range testmodel.VocabSpecs() {
		covered[spec.Name+".f16.golden"] = true
		t.Run(spec.Name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), spec.Name)
			if err := testmodel.Write(dir, spec); err != nil {
				t.Fatal(err)
			}
			vocabularyGolden(t, dir)
		})
	}
	covered["qwen2-vocabulary.f16.golden"] = true
	t.Run("qwen2-vocabulary", func(t *testing.T) {
		shape, err := testmodel.FindShape("tiny")
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "qwen2-vocabulary")
		if err := testmodel.Qwen3(context.Background(), dir, qwenVocabFile, shape); err != nil {
			t.Fatal(err)
		}
		vocabularyGolden(t, dir)
	})
	files, err := filepath.Glob("testdata/vocabulary/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !covered[filepath.Base(f)] {
			t.Errorf("%s: golden file without a test", f)
		}
	}
}

// qwenVocabFile is Qwen2's real vocabulary in llama.cpp's tree.
const qwenVocabFile = "../llamacpp/models/ggml-vocab-qwen2.gguf"

func vocabularyGolden(t *testing.T, dir string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "vocabulary", filepath.Base(dir)+".f16.golden"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(context.Background(), dir, Options{OutFile: t.TempDir(), OutType: "f16", Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	res, err := plan.Write(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, describe(t, res.Path), string(want))
}
