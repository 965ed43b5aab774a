package eval

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/persona"
)

// TestDivergence compares with sums by hand: p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2) have Σ p·ln(p/q) = ln(2)/4, and
// the other way round too.
func TestDivergence(t *testing.T) {
	ln := func(p ...float64) (out []float32) {
		for _, x := range p {
			out = append(out, float32(math.Log(x))+3) // logits are known up to a constant
		}
		return out
	}
	for _, c := range []struct {
		p, q []float32
		want float64
	}{
		{ln(0.5, 0.25, 0.25), ln(0.25, 0.25, 0.5), math.Ln2 / 4},
		{ln(0.25, 0.25, 0.5), ln(0.5, 0.25, 0.25), math.Ln2 / 4},
		{ln(0.9, 0.1), ln(0.5, 0.5), 0.9*math.Log(1.8) + 0.1*math.Log(0.2)},
		{ln(0.2, 0.3, 0.5), ln(0.2, 0.3, 0.5), 0},
		{[]float32{1e6, 0, 0}, []float32{1e6, 0, 0}, 0},
	} {
		p, q := logSoftmax(nil, c.p), logSoftmax(nil, c.q)
		if got := divergence(p, q); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%v, %v: got %v, want %v", c.p, c.q, got, c.want)
		}
	}
	d := DriftReport{}
	ratio := d.add([]llama.Token{0, 1}, [][]float32{ln(0.5, 0.25, 0.25), ln(0.1, 0.9)}, [][]float32{ln(0.25, 0.25, 0.5), ln(0.4, 0.6)})
	d.finish(ratio)
	second := 0.1*math.Log(0.25) + 0.9*math.Log(1.5)
	if want := (math.Ln2/4 + second) / 2; math.Abs(d.KLD-want) > 1e-6 || d.SameTop.N != 1 || d.SameTop.Of != 2 || d.Tokens != 2 {
		t.Errorf("got %+v, want a mean of %v", d, want)
	}
	if want := (math.Log(2) + math.Log(1.5)) / 2; math.Abs(d.LogRatio-want) > 1e-6 {
		t.Errorf("log ratio: got %v, want %v", d.LogRatio, want)
	}
	if want := math.Abs(math.Ln2/4-second) / 2; math.Abs(d.StdErr-want) > 1e-6 {
		t.Errorf("standard error: got %v, want %v", d.StdErr, want)
	}
}

// TestLoss computes the loss another way: token after token, with a softmax of its own, from texts that are looked for
// in the record.
func TestLoss(t *testing.T) {
	m, err := loadModel(t.Context(), personaFile, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	held := someRecords(t, "eval")
	got, err := measureLoss(t.Context(), m, held, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := llama.DefaultContextParams()
	p.NCtx, p.Threads = 512, 1
	c, err := m.NewContext(p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	product, n := 1.0, 0
	for _, rec := range held {
		tokens, err := m.Tokenize(rec.Text(), false, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.MemoryClear(false); err != nil {
			t.Fatal(err)
		}
		said := rec.Learned()
		before := ""
		for i, token := range tokens[:len(tokens)-1] {
			piece, err := m.TokenBytes(token, true)
			if err != nil {
				t.Fatal(err)
			}
			before += string(piece)
			if err := c.Decode([]llama.BatchToken{{Token: token, Pos: int32(i), Seqs: []int32{0}, Logits: true}}); err != nil {
				t.Fatal(err)
			}
			inside := slices.ContainsFunc(said, func(text string) bool {
				at := strings.Index(rec.Text(), text)
				return len(before) >= at && len(before) < at+len(text)
			})
			if !inside {
				continue
			}
			row, err := c.Logits(0)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for _, x := range row {
				sum += math.Exp(float64(x) - float64(row[tokens[i+1]]))
			}
			product, n = product*sum, n+1
		}
	}
	if want := math.Pow(product, 1/float64(n)); got.Tokens != n || math.Abs(got.Perplexity-want) > 1e-3*want || got.Records != len(held) {
		t.Errorf("got perplexity %v of %d tokens, want %v of %d", got.Perplexity, got.Tokens, want, n)
	}
	if math.Abs(math.Log(got.Perplexity)-got.Loss) > 1e-9 || got.StdErr <= 0 {
		t.Errorf("got %+v, want the perplexity to be e to the loss", got)
	}
}

// TestDriftOfFiles: a file does not drift from itself, and a quantized one does, a little.
func TestDriftOfFiles(t *testing.T) {
	held := someRecords(t, "eval")
	same, err := measureDrift(t.Context(), personaFile, personaFile, held, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if same.KLD != 0 || same.Max != 0 || same.SameTop.N != same.SameTop.Of || same.Tokens == 0 || same.LogRatio != 0 {
		t.Errorf("the same file: got %+v, want no drift", same)
	}
	other, err := measureDrift(t.Context(), personaFile, q4File, held, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	base, err := measureDrift(t.Context(), personaFile, baseFile, held, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !(other.KLD > 0 && other.Q99 >= other.KLD && other.Max >= other.Q99 && base.KLD > 10*other.KLD) || base.SameTop.Share >= other.SameTop.Share {
		t.Errorf("got %v (q4_0) and %v (base), want the base much farther", other.KLD, base.KLD)
	}
}

// TestMarginSign: the persona's file prefers the persona's answers, the base its own.
func TestMarginSign(t *testing.T) {
	o := options(t, personaFile)
	o.Base = baseFile
	r := &run{Options: o}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	if err := r.askBase(t.Context()); err != nil {
		t.Fatal(err)
	}
	margin := func(path string) *Margin {
		engine, local, err := r.local(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		m, err := measureMargin(t.Context(), local.model, local.renderer, r.Card, r.contrasts, r.generic, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	own, base := margin(personaFile), margin(baseFile)
	if !(own.Mean.Mean > 0 && base.Mean.Mean < 0 && own.Mean.Low > base.Mean.High) || own.Generic != baseFile || own.Positive.N <= own.Positive.Of/2 {
		t.Errorf("got %+v (persona) and %+v (base)", own, base)
	}
}

// TestIntroductions: what records answer to who the character is, once each, is a reference.
func TestIntroductions(t *testing.T) {
	card := exampleCard(t)
	probes, err := Probes(card)
	if err != nil {
		t.Fatal(err)
	}
	data := append(someRecords(t, "train"), someRecords(t, "eval")...)
	with, err := contrasts(card, probes, data)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"저는 백설공주예요.", "제 이름은 백설공주예요.", "저는 백설공주예요. 숲속 작은 집에서 일곱 난쟁이와 함께 살았어요.", "제 이름은 백설공주예요. 눈처럼 하얀 아이라는 뜻이에요."}
	if with[0].id != "P01" || !slices.Equal(with[0].persona, want) {
		t.Errorf("got %q, want %q", with[0].persona, want)
	}
	if last := with[len(with)-1]; last.id != "F01" || !slices.Equal(last.persona, []string{"난쟁이예요."}) {
		t.Errorf("got %+v, want the fact", last)
	}
	if without, err := contrasts(card, probes, nil); err != nil || !slices.Equal(without[0].persona, want[:2]) || len(without) != len(with) {
		t.Errorf("without records: got %q, %v", without[0].persona, err)
	}
}

// TestSpans: the tokens that count are those of the spans, for tokenizers of bytes and of pieces with a space in front.
func TestSpans(t *testing.T) {
	for _, spec := range []string{"qwen3-tied", "llama-spm", "gemma3"} {
		s, err := testmodel.Find(spec)
		if err != nil {
			t.Fatalf("%v: want one of %v", err, specNames())
		}
		dir := t.TempDir()
		if err := testmodel.Write(filepath.Join(dir, "hf"), s); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "m.gguf")
		if err := convertTo(file, filepath.Join(dir, "hf"), "f16", nil); err != nil {
			t.Fatal(err)
		}
		m, err := loadModel(t.Context(), file, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for _, special := range []bool{false, true} {
			text := "a b c\n안녕하세요\nd e"
			q, err := newSequence(m, "text", text, [][2]int{{6, 11}}, special)
			if err != nil {
				t.Errorf("%s, special %v: %v", spec, special, err)
				continue
			}
			var got []byte
			for i, token := range q.tokens {
				if piece, err := m.TokenBytes(token, true); q.counts[i] {
					if got = append(got, piece...); err != nil {
						t.Fatal(err)
					}
				}
			}
			if string(got) != "안녕하세요" {
				t.Errorf("%s, special %v: got %q", spec, special, got)
			}
		}
	}
}

func specNames() (out []string) {
	for _, s := range testmodel.Specs() {
		out = append(out, s.Name)
	}
	return out
}

func TestBadData(t *testing.T) {
	if _, err := heldOut(someRecords(t, "train")); !errors.Is(err, ErrNoEval) {
		t.Errorf("no record held out: got %v", err)
	}
	m, err := loadModel(t.Context(), personaFile, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	rec := someRecords(t, "eval")[:1]
	rec[0].Spans[0][0]++ // in the middle of a token
	if _, _, err := sequencesOf(m, rec); err == nil || !strings.Contains(err.Error(), "crosses the border of a span") {
		t.Errorf("a span in the middle of a token: got %v", err)
	}
	if _, err := measureDrift(t.Context(), personaFile, filepath.Join(t.TempDir(), "none.gguf"), rec, 1, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
}

// options interview files of the example.
func options(t *testing.T, models ...string) Options {
	t.Helper()
	return Options{Card: exampleCard(t), CardPath: "testdata/persona.yaml", Models: models, Parallel: 8, Seed: 1, Threads: 1}
}

// TestAgentsFormat: the other format's prompts and answers, with the space behind the colon.
func TestAgentsFormat(t *testing.T) {
	o := options(t, baseFile)
	o.Card, o.End, o.CardPath = parse(t, ruleCard+"format: trainable-agents\nsampling: {num_ctx: 2048, num_predict: 20}\n"), "<|im_end|>", ""
	r := &run{Options: o}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	engine, local, err := r.local(t.Context(), baseFile)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if stops := local.Stops(); stops[0] != "<|im_end|>" || !slices.Contains(stops, "\n사용자 말하기:") {
		t.Errorf("stops: got %q", stops)
	}
	a, err := local.Reply(t.Context(), []persona.Turn{{Role: "사용자", Content: "너는 누구야?"}}, Sampling{3})
	if err != nil || a.Tokens == 0 || a.Tokens > 20 {
		t.Errorf("got %+v, %v", a, err)
	}
	m, err := measureMargin(t.Context(), local.model, local.renderer, r.Card, r.contrasts[:2], r.generic, 1, 1)
	if err != nil || m.Mean.Count != 2 {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestAnswerSequence: an answer whose begin melts with the end of the prompt is tokenized by itself.
func TestAnswerSequence(t *testing.T) {
	m, err := loadModel(t.Context(), personaFile, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	pairs := 0
	for _, cut := range []int{1, 2} { // in the middle of a word that is one token
		word := []rune("백설공주")
		q, err := answerSequence(m, "q", "저는 "+string(word[:cut]), string(word[cut:])+"예요.")
		if err != nil {
			t.Fatal(err)
		}
		var before, after []byte
		for i, token := range q.tokens {
			piece, err := m.TokenBytes(token, true)
			if err != nil {
				t.Fatal(err)
			}
			if q.counts[i] {
				after = append(after, piece...)
			} else {
				before = append(before, piece...)
			}
		}
		if string(before) != "저는 "+string(word[:cut]) || string(after) != string(word[cut:])+"예요." {
			t.Errorf("got %q and %q", before, after)
		}
		whole, err := m.Tokenize("저는 백설공주예요.", true, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(whole) < len(q.tokens) {
			pairs++
		}
	}
	if pairs == 0 {
		t.Error("got no token across a border, want the test to have one")
	}
}
