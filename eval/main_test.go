package eval

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/persona"
	"github.com/persona-gguf/persona-gguf/quant"
)

const example = "../examples/snow_white"

// The example's models, made once: the persona, a quantized one, and the base.
var personaFile, q4File, baseFile string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "eval")
		if err == nil {
			defer os.RemoveAll(dir)
			err = makeModels(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func makeModels(dir string) error {
	personaFile, q4File, baseFile = filepath.Join(dir, "f16.gguf"), filepath.Join(dir, "q4_0.gguf"), filepath.Join(dir, "base.gguf")
	adapter := []lora.Source{{Dir: example + "/adapter", Weight: 1}}
	for _, model := range []struct {
		out, outType string
		adapters     []lora.Source
	}{{personaFile, "f16", adapter}, {q4File, "q4_0", adapter}, {baseFile, "f16", nil}} {
		if err := convertTo(model.out, example+"/base", model.outType, model.adapters); err != nil {
			return err
		}
	}
	return nil
}

func convertTo(out, dir, outType string, adapters []lora.Source) error {
	ctx := context.Background()
	plan, err := convert.NewPlan(ctx, dir, convert.Options{OutFile: out, OutType: outType, Adapters: adapters})
	if err != nil {
		return err
	}
	defer plan.Close()
	_, err = plan.Write(ctx)
	return err
}

func exampleCard(t *testing.T) *persona.Card {
	t.Helper()
	card, err := persona.Read("testdata/persona.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// parse makes a card of text.
func parse(t *testing.T, text string) *persona.Card {
	t.Helper()
	card, err := persona.Parse([]byte(text), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// records are dialogues of the example, as the renderer makes them.
func records(t *testing.T, split string, dialogues ...[]string) (out []persona.Record) {
	t.Helper()
	card := exampleCard(t)
	r, err := persona.NewRenderer(card, persona.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range dialogues {
		var turns []persona.Turn
		for k, text := range d {
			turns = append(turns, persona.Turn{Role: []string{card.User.Name, card.Name}[k%2], Content: text})
		}
		rec, err := r.Record(turns)
		if err != nil {
			t.Fatal(err)
		}
		rec.Split, rec.Source = split, fmt.Sprint("dialogue ", i)
		out = append(out, rec)
	}
	return out
}

// someRecords are a few held-out dialogues.
func someRecords(t *testing.T, split string) []persona.Record {
	return records(t, split,
		[]string{"너는 누구야?", "저는 백설공주예요. 숲속 작은 집에서 일곱 난쟁이와 함께 살았어요."},
		[]string{"안녕하세요", "안녕하세요. 숲속까지 찾아와 주셔서 반가워요.", "네 이름이 뭐야?", "제 이름은 백설공주예요. 눈처럼 하얀 아이라는 뜻이에요."},
		[]string{"스마트폰은 어떤 걸 써요?", "그게 무엇인가요? 숲속에서는 한 번도 본 적이 없어요."},
	)
}

// imatrixOf is an importance matrix read back.
func imatrixOf(t *testing.T, path string) *quant.Imatrix {
	t.Helper()
	m, err := quant.LoadImatrix(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
