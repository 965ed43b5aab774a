package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

// tinyModel writes a GGUF file of a tiny model.
func tinyModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	spec, err := testmodel.Find("qwen3-tied")
	if err != nil {
		t.Fatal(err)
	}
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	plan, err := convert.NewPlan(t.Context(), dir, convert.Options{OutType: "f16", OutFile: filepath.Join(dir, "m.gguf")})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	result, err := plan.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result.Path
}

func smallGrid(path string) Params {
	p := DefaultParams()
	p.Models, p.NPrompt, p.NGen, p.PG, p.NDepth = []string{path}, []int{20}, []int{3}, [][2]int{{8, 2}}, []int{0, 12}
	p.NBatch, p.NUBatch, p.NThreads, p.Reps = []int{8}, []int{4}, []int{1}, 3
	return p
}

func TestRun(t *testing.T) {
	path := tinyModel(t)
	var results []Result
	err := Run(t.Context(), smallGrid(path), func(r Result) error {
		results = append(results, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range results {
		names = append(names, testName(r))
		if len(r.SamplesNS) != 3 || len(r.SamplesTS) != 3 || slices.Min(r.SamplesNS) <= 0 || r.AvgTS <= 0 || r.StddevTS < 0 {
			t.Errorf("%s: got samples %v, %v, rate %v ± %v", testName(r), r.SamplesNS, r.SamplesTS, r.AvgTS, r.StddevTS)
		}
		for i, ns := range r.SamplesNS {
			if want := 1e9 * float64(r.NPrompt+r.NGen) / float64(ns); math.Abs(r.SamplesTS[i]-want) > 1e-9*want {
				t.Errorf("%s: rate %d: got %v, want %v", testName(r), i, r.SamplesTS[i], want)
			}
		}
		if prompt := r.NPrompt > 0; prompt != (len(r.SamplesFirstNS) == 3) || prompt != (r.AvgFirstNS > 0) {
			t.Errorf("%s: first token: got %v", testName(r), r.SamplesFirstNS)
		}
		if r.ModelLoadNS <= 0 || r.PeakMemory <= 0 || r.ModelNParams == 0 || r.ModelFilename != path || r.Backends != "CPU" && r.GPUInfo == "" {
			t.Errorf("%s: got %+v", testName(r), r)
		}
		if r.ModelLoadNS != results[0].ModelLoadNS {
			t.Errorf("%s: the model was loaded again", testName(r))
		}
		if _, err := time.Parse(time.RFC3339, r.TestTime); err != nil {
			t.Errorf("test_time: %v", err)
		}
	}
	want := "pp20 tg3 pp8+tg2 pp20 @ d12 tg3 @ d12 pp8+tg2 @ d12"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("tests: got %s, want %s", got, want)
	}
}

func TestRunStops(t *testing.T) {
	path := tinyModel(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := 0
	err := Run(ctx, smallGrid(path), func(Result) error {
		count++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || count != 1 {
		t.Errorf("cancelled: got %v after %d tests", err, count)
	}
	stop := errors.New("stop")
	if err := Run(t.Context(), smallGrid(path), func(Result) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("report fails: got %v", err)
	}
	missing := smallGrid(filepath.Join(t.TempDir(), "none.gguf"))
	if err := Run(t.Context(), missing, func(Result) error { return nil }); err == nil || !strings.Contains(err.Error(), "none.gguf") {
		t.Errorf("missing model: got %v", err)
	}
}

// TestFieldsAreLlamaBench compares our JSON with that of llama-bench from the same build: the same fields in the
// same order with the same kinds of values, ours after them, and the same values where nothing is timed.
func TestFieldsAreLlamaBench(t *testing.T) {
	path := tinyModel(t)
	tool := filepath.Join("..", "bin", "llama-bench")
	out, err := exec.Command(tool, "-m", path, "-p", "4", "-n", "0", "-r", "2", "-t", "1", "-b", "16", "-ub", "8", "-lm", "mmap", "-o", "jsonl").Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	p := smallGrid(path)
	p.NPrompt, p.NGen, p.PG, p.NDepth, p.NBatch, p.NUBatch, p.Reps = []int{4}, nil, nil, []int{0}, []int{16}, []int{8}, 2
	var ours bytes.Buffer
	printer, err := NewPrinter(&ours, "jsonl", p)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), p, printer.Test); err != nil {
		t.Fatal(err)
	}
	wantKeys, want := decode(t, out)
	gotKeys, got := decode(t, ours.Bytes())
	if len(gotKeys) < len(wantKeys) || !reflect.DeepEqual(gotKeys[:len(wantKeys)], wantKeys) {
		t.Errorf("fields: got\n%v\nwant these first:\n%v", gotKeys, wantKeys)
	}
	measured := []string{"test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts"}
	for _, key := range wantKeys {
		if slices.Contains(measured, key) {
			if g, w := reflect.TypeOf(got[key]), reflect.TypeOf(want[key]); g != w {
				t.Errorf("%s: got a %v, want a %v", key, g, w)
			}
		} else if !reflect.DeepEqual(got[key], want[key]) {
			t.Errorf("%s: got %v, want %v", key, got[key], want[key])
		}
	}
}

// decode reads a JSON object and the order of its keys.
func decode(t *testing.T, text []byte) (keys []string, object map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for key := range object {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return bytes.Index(text, []byte(`"`+a+`":`)) - bytes.Index(text, []byte(`"`+b+`":`))
	})
	return keys, object
}

func TestMeanDeviation(t *testing.T) {
	for _, c := range []struct {
		samples         []float64
		mean, deviation float64
	}{{nil, 0, 0}, {[]float64{5}, 5, 0}, {[]float64{2, 4, 4, 4, 5, 5, 7, 9}, 5, math.Sqrt(32. / 7)}} {
		if mean, deviation := meanDeviation(c.samples); mean != c.mean || math.Abs(deviation-c.deviation) > 1e-12 {
			t.Errorf("%v: got %v ± %v, want %v ± %v", c.samples, mean, deviation, c.mean, c.deviation)
		}
	}
}

func TestSum(t *testing.T) {
	r := Result{NPrompt: 100}
	r.sum([]time.Duration{time.Second, 2 * time.Second}, []time.Duration{time.Second, 3 * time.Second})
	if r.AvgTS != 75 || math.Abs(r.StddevTS-math.Sqrt(1250)) > 1e-9 { // the mean of the rates, not the rate of the mean
		t.Errorf("rates 100 and 50: got %v ± %v", r.AvgTS, r.StddevTS)
	}
	if r.AvgNS != 1500000000 || r.AvgFirstNS != 2000000000 || r.StddevFirstNS != 1414213562 {
		t.Errorf("times: got %d, first %d ± %d", r.AvgNS, r.AvgFirstNS, r.StddevFirstNS)
	}
}

func TestPrinters(t *testing.T) {
	r := Result{
		ModelType: "qwen3 4B Q4_0", ModelSize: 2363326464, ModelNParams: 4022468096, Backends: "CPU", NThreads: 2, NPrompt: 512, NDepth: 8,
		AvgTS: 12.345, StddevTS: 0.5, SamplesNS: []int64{1, 2}, NoHost: true, ModelLoadNS: 1.5e9, AvgFirstNS: 2e9, PeakMemory: 3 << 30, CPUInfo: `a "b", c`,
	}
	print := func(format string) string {
		var b bytes.Buffer
		p, err := NewPrinter(&b, format, DefaultParams())
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{p.Header(), p.Test(r), p.Test(r), p.Footer()} {
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
		}
		return b.String()
	}
	row := "| qwen3 4B Q4_0                  |   2.20 GiB |     4.02 B | CPU        |       2 |      pp512 @ d8 |         12.35 ± 0.50 |       2.0 s |    1.5 s |    3.00 GiB |\n"
	if got := print("md"); strings.Count(got, row) != 2 {
		t.Errorf("md: got\n%s\nwant two of\n%s", got, row)
	}
	var list []Result
	if err := json.Unmarshal([]byte(print("json")), &list); err != nil || len(list) != 2 || list[1].ModelSize != r.ModelSize || list[0].SamplesNS[1] != 2 {
		t.Errorf("json: got %v, %+v", err, list)
	}
	rows, err := csv.NewReader(strings.NewReader(print("csv"))).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("csv: got %v, %v", rows, err)
	}
	for name, want := range map[string]string{"avg_ts": "12.345000", "no_host": "1", "no_kv_offload": "0", "cpu_info": r.CPUInfo, "model_load_ns": "1500000000"} {
		if i := slices.Index(rows[0], name); i < 0 || rows[2][i] != want {
			t.Errorf("csv: %s: got column %d of %v, want %s", name, i, rows[2], want)
		}
	}
	if _, err := NewPrinter(os.Stdout, "sql", DefaultParams()); err == nil {
		t.Error("sql: got no error")
	}
}
