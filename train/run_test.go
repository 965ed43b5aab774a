package train

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRun(t *testing.T) {
	o, said := fakeOptions(t, "ok")
	var steps []Progress
	o.Progress = func(p Progress) { steps = append(steps, p) }
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors", "training.json", "train_log.jsonl", "loss.png", "trainer.log", "tokenizer.json"} {
		if !exists(filepath.Join(o.OutputDir, name)) {
			t.Errorf("%s: not there", name)
		}
	}
	for _, name := range []string{"checkpoint-1", "run.json", "README.md"} {
		if exists(filepath.Join(o.OutputDir, name)) {
			t.Errorf("%s: still there", name)
		}
	}
	for _, want := range []string{"7 records to train on, 1 held out", "learning_rate:0.0002", "no GPU: training on the CPU, with bitsandbytes' CPU kernels",
		"질문 ⟦답.<end>⟧", "8, 80 tokens, 20 of them under the loss"} {
		if !said.has(want) {
			t.Errorf("got %q, want %q among it", said.text, want)
		}
	}
	if n := len(steps); n < 4 || steps[n-1].Step != 2 || steps[n-1].Loss != 1.5 || steps[n-1].EvalLoss != 2.25 || steps[n-1].Steps != 4 {
		t.Errorf("progress: got %+v", steps)
	}
	checkManifest(t, o, r)
	if found := grep(t, filepath.Dir(o.OutputDir), secret); len(found) > 0 {
		t.Errorf("the secret is in %s", found)
	}
	if len(grep(t, o.OutputDir, "a library prints [secret]")) != 1 || len(grep(t, o.OutputDir, "loading with [secret]")) != 1 {
		t.Error("trainer.log: got no scrubbed lines")
	}
	if len(grep(t, o.OutputDir, "short")) != 0 {
		t.Error("a short value was written, although nothing prints it")
	}
}

// checkManifest compares training.json with the run.
func checkManifest(t *testing.T, o Options, r *Result) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.OutputDir, "training.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"version", "base_model", "base_sha256", "base_quant", "data_sha256", "prompt_format", "hyperparameters", "versions", "tokens", "result"} {
		if m[key] == nil {
			t.Errorf("training.json: got no %s", key)
		}
	}
	if !strings.Contains(string(text), `"model.a": 0.120975494`) || m["prompt_format"] != "chatml" || r.Manifest.Result.Steps != 2 {
		t.Errorf("training.json: got %s", text)
	}
}

func TestFailures(t *testing.T) {
	for behaviour, want := range map[string]struct {
		err  error
		text string
	}{
		"memory": {ErrMemory, "tried to allocate 4.03 GiB"}, "base": {ErrBase, "404"}, "crash": {nil, "Segmentation fault near [secret]"}, "nothing": {nil, "without a result"},
	} {
		o, said := fakeOptions(t, behaviour)
		_, err := Run(t.Context(), o)
		if err == nil || want.err != nil && !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %v, want %q", behaviour, err, want.text)
		}
		if behaviour == "crash" != said.has("the last checkpoint is kept, "+o.OutputDir+"/checkpoint-1:") {
			t.Errorf("%s: got %q", behaviour, said.text)
		}
		if exists(filepath.Join(o.OutputDir, "training.json")) || exists(filepath.Join(o.OutputDir, "run.json")) != (behaviour == "crash") {
			t.Errorf("%s: got a folder that looks like an adapter, or like a run to go on with", behaviour)
		}
		if found := grep(t, o.OutputDir, secret); len(found) > 0 {
			t.Errorf("%s: the secret is in %s", behaviour, found)
		}
	}
}

// TestInterruptAndResume stops a run, and goes on with it only under the same settings.
func TestInterruptAndResume(t *testing.T) {
	o, said := fakeOptions(t, "slow")
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if p.Step == 1 {
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	if !said.has("checkpoint-3: --resume goes on from there") {
		t.Errorf("got %q", said.text)
	}
	o.Progress = nil
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrExists) {
		t.Errorf("without resume: got %v", err)
	}
	o.Resume = true
	o.Env = append(o.Env, "FAKE=ok")
	other := o
	other.LearningRate, other.Seed = 1e-3, 7
	if _, err := Run(t.Context(), other); !errors.Is(err, ErrResume) || !strings.Contains(err.Error(), "learning_rate: got 0.001, want 0.0002 as in the run") ||
		!strings.Contains(err.Error(), "seed: got 7, want 42") {
		t.Errorf("other settings: got %v", err)
	}
	r, err := Run(t.Context(), o)
	if err != nil || r.Resumed != 3 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if len(grep(t, o.OutputDir, `"resume": "`+filepath.Join(o.OutputDir, "checkpoint-3")+`"`)) != 1 {
		t.Error("the trainer was not told the checkpoint")
	}
	for _, resume := range []bool{true, false} {
		o.Resume = resume
		if _, err := Run(t.Context(), o); !errors.Is(err, map[bool]error{true: ErrResume, false: ErrExists}[resume]) {
			t.Errorf("finished, resume %v: got %v", resume, err)
		}
	}
}

// TestWaitsForATrainer begins while the trainer of a program that was killed still works in the folder.
func TestWaitsForATrainer(t *testing.T) {
	o, said := fakeOptions(t, "ok")
	if err := os.MkdirAll(o.OutputDir, 0o755); err != nil {
		t.Fatal(err)
	}
	folder, err := os.Open(o.OutputDir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	trainer := exec.Command("cat") // ends when its input does, as a trainer
	trainer.ExtraFiles = []*os.File{folder}
	input, err := trainer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := trainer.Start(); err != nil {
		t.Fatal(err)
	}
	folder.Close()
	o.Info = func(text string) {
		said.add(text)
		if strings.Contains(text, "a trainer still works in "+o.OutputDir) {
			input.Close()
		}
	}
	if _, err := Run(t.Context(), o); err != nil || !said.has("waiting for its end") {
		t.Errorf("got %v, said %q", err, said.text)
	}
	if err := trainer.Wait(); err != nil {
		t.Fatal(err)
	}
	o, _ = fakeOptions(t, "ok")
	o.OutputDir = folder.Name()
	if folder, err = os.Open(o.OutputDir); err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Info = func(string) { cancel() }
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestLogOfResumedRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := `{"event":"step","step":1,"loss":2}` + "\n" + `{"event":"eval","step":2,"eval_loss":1.5}` + "\n" + `{"event":"step","step":3,"loss":1}` + "\n" + `{"event":"st`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	lines, err := readLog(path, 2)
	if err != nil || len(lines) != 2 || last(lines, func(l logLine) *float64 { return l.EvalLoss }) != 1.5 {
		t.Errorf("got %+v, %v", lines, err)
	}
	if lines, err := readLog(path+"x", 2); err != nil || lines != nil {
		t.Errorf("no file: got %v, %v", lines, err)
	}
}

func TestLaunchers(t *testing.T) {
	e := environment{"py", "trainer.py"}
	for _, c := range []struct {
		change func(*Options)
		gpu    bool
		want   string
	}{
		{func(*Options) {}, true, "py -u trainer.py c.json"},
		{func(o *Options) { o.Launcher, o.NProc = "torchrun", 2 }, false,
			"py -u -m torch.distributed.run --nproc-per-node 2 --nnodes 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0 trainer.py c.json"},
		{func(o *Options) {
			o.Launcher, o.NProc, o.NNodes, o.NodeRank, o.MasterAddr = "torchrun", 8, 2, 1, "10.0.0.1"
		}, true, "py -u -m torch.distributed.run --nproc-per-node 8 --nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 trainer.py c.json"},
		{func(o *Options) { o.Launcher, o.NProc = "accelerate", 4 }, true,
			"py -u -m accelerate.commands.launch --num_processes 4 --num_machines 1 --machine_rank 0 --main_process_ip 127.0.0.1 --main_process_port 29500 --mixed_precision no --dynamo_backend no --multi_gpu trainer.py c.json"},
		{func(o *Options) { o.Launcher = "accelerate" }, false,
			"py -u -m accelerate.commands.launch --num_processes 1 --num_machines 1 --machine_rank 0 --main_process_ip 127.0.0.1 --main_process_port 29500 --mixed_precision no --dynamo_backend no --cpu trainer.py c.json"},
	} {
		o := DefaultOptions()
		c.change(&o)
		if got := strings.Join(o.trainerCommand(e, c.gpu, "c.json"), " "); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	good := DefaultOptions()
	good.BaseModel, good.DataPath, good.OutputDir = "b", "d", "o"
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"base_model: got none":                      func(o *Options) { o.BaseModel = "" },
		"data_path: got none":                       func(o *Options) { o.DataPath = "" },
		"output_dir: got none":                      func(o *Options) { o.OutputDir = "" },
		"epochs: got 0, want":                       func(o *Options) { o.Epochs = 0 },
		"learning_rate: got 2, want":                func(o *Options) { o.LearningRate = 2 },
		"batch_size: got 0, want 1":                 func(o *Options) { o.BatchSize = 0 },
		"lora_dropout: got 1, want 0 to 0.99":       func(o *Options) { o.LoraDropout = 1 },
		"max_truncated: got 1.5, want 0 to 1":       func(o *Options) { o.MaxTruncated = 1.5 },
		"node_rank: got 1, want 0 to 0":             func(o *Options) { o.NodeRank = 1 },
		`launcher: got "mpi", want torchrun`:        func(o *Options) { o.Launcher = "mpi" },
		"nproc, nnodes: got 2 and 1 without a laun": func(o *Options) { o.NProc = 2 },
	} {
		o := good
		change(&o)
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: it ran", want)
		}
	}
}

func TestScrubber(t *testing.T) {
	s := newScrubber([]string{"WANDB_API_KEY=0123456789", "HF_TOKEN=0123456789abc", "MY_PASSWORD=a\"b\\c/defg", "TOKENIZERS_PARALLELISM=false", "PATH=/usr/local/bin"})
	for in, want := range map[string]string{
		"x 0123456789abc y 0123456789 z": "x [secret] y [secret] z", `{"a":"a\"b\\c/defg"}`: `{"a":"[secret]"}`, "false /usr/local/bin": "false /usr/local/bin",
	} {
		if got := s.Replace(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	var lines []string
	for i := range 40 {
		lines = append(lines, sftLine(i, ""), strings.Replace(sftLine(i, ""), "누구야", "누구니", 1))
	}
	held := func(o Options) (sources []string, d *data) {
		o.DataPath = writeSFT(t, lines...)
		d, err := readData(&o)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range d.records {
			if r.Split == "eval" {
				sources = append(sources, r.Source)
			}
		}
		return sources, d
	}
	o := DefaultOptions()
	first, d := held(o)
	if len(first) != 2 || first[0] != first[1] || d.train != 78 || d.eval != 2 { // 0.02 of 40 sources, rounded up, both records of it
		t.Errorf("got %v held out", first)
	}
	o.EvalSplit = 0.1
	tenth, _ := held(o)
	if again, _ := held(o); len(tenth) != 8 || !slices.Equal(tenth, again) {
		t.Errorf("got %v, then %v", tenth, again)
	}
	o.Seed = 1
	if other, _ := held(o); slices.Equal(tenth, other) {
		t.Error("another seed holds out the same")
	}
	o.EvalSplit = 0
	if none, _ := held(o); len(none) != 0 {
		t.Errorf("share 0: got %v held out", none)
	}
}

func TestDecidedSplit(t *testing.T) {
	o := DefaultOptions()
	o.DataPath = writeSFT(t, sftLine(0, "train"), sftLine(1, "eval"))
	if d, err := readData(&o); err != nil || d.train != 1 || d.eval != 1 {
		t.Errorf("got %+v, %v", d, err)
	}
	o.EvalSplit = 0.5
	if _, err := readData(&o); err == nil || !strings.Contains(err.Error(), "want one of them") {
		t.Errorf("split and eval_split: got %v", err)
	}
	o.EvalSplit = -1
	for want, lines := range map[string][]string{
		"record 2: split: got none": {sftLine(0, "train"), sftLine(1, "")},
		"no record to train on":     {sftLine(0, "eval")},
		"want chatml as in the fir": {sftLine(0, ""), strings.Replace(sftLine(1, ""), `"chatml"`, `"trainable-agents"`, 1)},
		"record 1: spans: got none": {`{"prompt":"p","output":"백설공주 말하기: 네","source":"s"}`},
	} {
		o.DataPath = writeSFT(t, lines...)
		if _, err := readData(&o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
