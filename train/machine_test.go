package train

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadBases has one folder for each way to be wrong; nothing else may have been done before.
func TestBadBases(t *testing.T) {
	copyOf := func(change func(dir string)) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(exampleBase)); err != nil {
			t.Fatal(err)
		}
		change(dir)
		return dir
	}
	editFile := func(name, old, text string) func(string) {
		return func(dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, []byte(strings.ReplaceAll(string(data), old, text)), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(old, text string) func(string) { return editFile("config.json", old, text) }
	remove := func(name string) func(string) { return func(dir string) { os.Remove(filepath.Join(dir, name)) } }
	for want, dir := range map[string]string{
		"want a folder with config.json": "no/such/folder",
		"no such file":                   copyOf(remove("config.json")),
		"architectures: got":             copyOf(edit("Qwen3ForCausalLM", "Qwen3Model")),
		"config.json: invalid":           copyOf(edit("{\n", "[\n")),
		"quantization_config: got one":   copyOf(edit(`"attention_bias"`, `"quantization_config": {"a": 1}, "attention_bias"`)),
		"tokenizer: got none":            copyOf(remove("tokenizer.json")),
		"safetensors":                    copyOf(remove("model.safetensors")),
		"got no layers called q_proj, up_proj, want": copyOf(func(dir string) {
			editFile("model.safetensors", "q_proj", "Q_proj")(dir)
			editFile("model.safetensors", "up_proj", "Up_proj"[:7])(dir)
		}),
	} {
		o, _ := fakeOptions(t, "ok")
		o.BaseModel, o.DataPath = dir, "no such data"
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrBase) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if exists(o.OutputDir) || exists(o.CacheDir) {
			t.Errorf("%s: work was begun", want)
		}
	}
	o, _ := fakeOptions(t, "ok")
	o.MaxLength = 16384
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "max_length: got 16384 tokens, want at most the 8192") {
		t.Errorf("too long for the model: got %v", err)
	}
}

// TestHubName wants a name of the hub to be looked for by the trainer's environment, which says there is none.
func TestHubName(t *testing.T) {
	o, _ := fakeOptions(t, "base")
	o.BaseModel = "Qwen/Qwen3-4B-Instruct"
	o.Env = append(o.Env, "FAKE_MISSING=")
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrBase) {
		t.Errorf("got %v, want an error about the base", err)
	}
	if isHubName("Qwen") || isHubName("./Qwen/x") || isHubName("../examples/snow_white") || !isHubName("Qwen/Qwen3-4B") {
		t.Error("names of the hub are told wrongly from folders")
	}
}

// bigBase has the shapes of Qwen3-4B.
func bigBase() *base {
	b := &base{name: "4B", hidden: 2560, inter: 9728, blocks: 36, other: 151936 * 2560}
	for range 36 {
		for _, s := range [][2]int64{{4096, 2560}, {1024, 2560}, {1024, 2560}, {2560, 4096}, {9728, 2560}, {9728, 2560}, {2560, 9728}} {
			b.shapes = append(b.shapes, s)
			b.linear += s[0] * s[1]
		}
	}
	return b
}

func TestEstimate(t *testing.T) {
	b, o := bigBase(), DefaultOptions()
	if n := b.adapterWeights(16); n != 33030144 {
		t.Errorf("adapter: got %d weights, want 33030144", n)
	}
	nf4 := b.estimate(&o, true, 1, 1)
	o.No4Bit = true
	full := b.estimate(&o, true, 1, 1)
	if gib := float64(nf4) / (1 << 30); gib < 3.5 || gib > 5 {
		t.Errorf("NF4 without activations: got %.1f GiB, want 3.5 to 5", gib)
	}
	if gib := float64(full) / (1 << 30); gib < 9 || gib > 11 {
		t.Errorf("bf16: got %.1f GiB, want 9 to 11", gib)
	}
	o.No4Bit = false
	if one, four := b.estimate(&o, true, 1, 2048), b.estimate(&o, true, 4, 2048); four <= one || one <= nf4 {
		t.Errorf("got %d, %d, %d, want more for more tokens", nf4, one, four)
	}
	if got := b.suggest(&o, true, 2048, 1<<30); got != 0 {
		t.Errorf("1 GiB: got batch size %d, want none", got)
	}
	small, large := b.suggest(&o, true, 2048, 12<<30), b.suggest(&o, true, 2048, 80<<30)
	if small < 1 || large <= small || b.estimate(&o, true, large, 2048) > 80<<30 {
		t.Errorf("got batch sizes %d and %d", small, large)
	}
}

// withGPU puts a driver's tool on the PATH of the options, whose card has free of total MiB.
func withGPU(t *testing.T, o *Options, free string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\n*gpu=*) echo 'NVIDIA Test, " + free + ", 24564' ;;\n*) echo '4711, /usr/bin/python3, 2800' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	o.Env = append(o.Env, "PATH="+dir+":/usr/bin:/bin")
}

// ollama is a server that holds a model until it is told to drop it.
func ollama(t *testing.T) (loaded *bool) {
	t.Helper()
	loaded = new(bool)
	*loaded = true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/ps":
			models := []map[string]any{}
			if *loaded {
				models = append(models, map[string]any{"name": "exaone3.5:2.4b", "size": 4 << 30, "size_vram": 3 << 30})
			}
			json.NewEncoder(w).Encode(map[string]any{"models": models})
		case "/api/generate":
			var body map[string]any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body["model"] != "exaone3.5:2.4b" || body["keep_alive"] != "0s" {
				t.Errorf("unload: got %v, %v", body, err)
			}
			*loaded = false
			w.Write([]byte(`{"model":"exaone3.5:2.4b","done":true,"done_reason":"unload"}` + "\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("OLLAMA_HOST", server.URL)
	return loaded
}

// TestPreflight wants a card that is too full to be refused, with all that lies on it.
func TestPreflight(t *testing.T) {
	o, said := fakeOptions(t, "ok")
	loaded := ollama(t)
	withGPU(t, &o, "600")
	_, err := Run(t.Context(), o)
	if !errors.Is(err, ErrMemory) {
		t.Fatalf("got %v, want an error about memory", err)
	}
	for _, want := range []string{"NVIDIA Test: got 629 MB free, want about", "Ollama model exaone3.5:2.4b: 3.22 GB on the GPU", "process 4711 (/usr/bin/python3): 2.94 GB"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
	if !said.has("--unload-ollama frees its memory") || exists(filepath.Join(o.OutputDir, "run.json")) || !*loaded {
		t.Errorf("got %q", said.text)
	}
	o.NoMemoryCheck, o.UnloadOllama = true, true
	if _, err := Run(t.Context(), o); err != nil || *loaded || !said.has("unloaded Ollama model exaone3.5:2.4b") {
		t.Errorf("got %v, %q", err, said.text)
	}
}

func TestSuggestion(t *testing.T) {
	o, said := fakeOptions(t, "ok")
	withGPU(t, &o, "24000")
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !said.has("--batch-size 16 --grad-accum 1 is the same 16 records per step") || said.has("no GPU") {
		t.Errorf("got %q", said.text)
	}
	if o.UnloadOllama = true; true {
		o.OutputDir += "2"
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "unload ollama") {
			t.Errorf("no server to unload from: got %v", err)
		}
	}
}

// fakeUV writes down how it is called, and gives the fake trainer as interpreter.
func fakeUV(t *testing.T, o *Options) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$UV_CACHE_DIR $*\" >>" + log + "\n[ \"$2\" != find ] || echo " + o.Python + "\n"
	if err := os.WriteFile(filepath.Join(dir, "uv"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	o.Python = ""
	o.Env = append(o.Env, "PATH="+dir+":/usr/bin:/bin")
	return func() string {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
}

func TestEnvironment(t *testing.T) {
	o, _ := fakeOptions(t, "ok")
	want := o.Python
	calls := fakeUV(t, &o)
	if found := Look(o.CacheDir, o.Env); found.Ready || found.UV == "" {
		t.Errorf("before: got %+v", found)
	}
	for range 2 { // the second time nothing is left to do
		if got, err := Prepare(t.Context(), &o); err != nil || got != want {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
	}
	if got := calls(); strings.Count(got, "\n") != 2 || !strings.Contains(got, o.CacheDir+"/cache sync --script "+o.CacheDir+"/trainer-") {
		t.Errorf("uv: got %s", got)
	}
	if found := Look(o.CacheDir, o.Env); !found.Ready || found.Python != want {
		t.Errorf("after: got %+v", found)
	}
	if len(grep(t, o.CacheDir, "wandb==")) != 0 {
		t.Error("wandb is among the packages without a key")
	}
	o.Env = append(o.Env, "WANDB_API_KEY="+secret)
	if _, err := Prepare(t.Context(), &o); err != nil {
		t.Fatal(err)
	}
	if got := calls(); strings.Count(got, "\n") != 4 || len(grep(t, o.CacheDir, "wandb==")) != 1 || len(grep(t, o.CacheDir, secret)) != 0 {
		t.Errorf("with a key: uv: got %s", got)
	}
}

func TestBadEnvironment(t *testing.T) {
	o, _ := fakeOptions(t, "ok")
	o.Env = append(o.Env, `FAKE_MISSING="torch","peft"`)
	if _, err := Prepare(t.Context(), &o); !errors.Is(err, ErrEnvironment) || !strings.Contains(err.Error(), "got no torch, peft") {
		t.Errorf("packages missing: got %v", err)
	}
	o.Python = filepath.Join(t.TempDir(), "none")
	if _, err := Prepare(t.Context(), &o); !errors.Is(err, ErrEnvironment) {
		t.Errorf("no interpreter: got %v", err)
	}
	o.Python = ""
	o.Env = append(o.Env, "PATH=/nowhere")
	if _, err := Prepare(t.Context(), &o); !errors.Is(err, ErrEnvironment) || !strings.Contains(err.Error(), "got neither uv nor python3 on PATH") {
		t.Errorf("nothing on PATH: got %v", err)
	}
	dir := t.TempDir() // a Python whose venv and pip fail
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\necho no module named pip >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.Env = append(o.Env, "PATH="+dir)
	if _, err := Prepare(t.Context(), &o); !errors.Is(err, ErrEnvironment) || !strings.Contains(err.Error(), "no module named pip") {
		t.Errorf("no pip: got %v", err)
	}
}
