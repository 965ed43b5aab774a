package bench

import (
	"strings"
	"time"

	"gonum.org/v1/gonum/stat"

	llama "github.com/go-skynet/go-llama.cpp"
)

// Result is one test. The JSON names are llama-bench's, in its order, up to the samples; what follows
// the samples is ours. Fields that llama-bench can vary and we do not have its default.
type Result struct {
	BuildCommit   string `json:"build_commit"` // of llama.cpp
	BuildNumber   int    `json:"build_number"`
	CPUInfo       string `json:"cpu_info"`
	GPUInfo       string `json:"gpu_info"`
	Backends      string `json:"backends"`
	ModelFilename string `json:"model_filename"`
	ModelType     string `json:"model_type"`
	ModelSize     uint64 `json:"model_size"` // bytes of all tensors
	ModelNParams  uint64 `json:"model_n_params"`
	NBatch        int    `json:"n_batch"`
	NUBatch       int    `json:"n_ubatch"`
	NThreads      int    `json:"n_threads"`
	CPUMask       string `json:"cpu_mask"`
	CPUStrict     bool   `json:"cpu_strict"`
	Poll          int    `json:"poll"`
	TypeK         string `json:"type_k"`
	TypeV         string `json:"type_v"`
	NGPULayers    int    `json:"n_gpu_layers"`
	NCPUMoE       int    `json:"n_cpu_moe"`
	SplitMode     string `json:"split_mode"`
	MainGPU       int    `json:"main_gpu"`
	NoKVOffload   bool   `json:"no_kv_offload"`
	FlashAttn     int    `json:"flash_attn"` // -1: automatic
	Devices       string `json:"devices"`
	TensorSplit   string `json:"tensor_split"`
	TensorBuft    string `json:"tensor_buft_overrides"`
	LoadMode      string `json:"load_mode"`
	LazyMode      string `json:"lazy_mode"`
	Embeddings    bool   `json:"embeddings"`
	NoOpOffload   int    `json:"no_op_offload"`
	NoHost        bool   `json:"no_host"`
	FitTarget     int    `json:"fit_target"`
	FitMinCtx     int    `json:"fit_min_ctx"`
	NPrompt       int    `json:"n_prompt"`
	NGen          int    `json:"n_gen"`
	NDepth        int    `json:"n_depth"`

	TestTime  string    `json:"test_time"` // RFC 3339, UTC
	AvgNS     int64     `json:"avg_ns"`
	StddevNS  int64     `json:"stddev_ns"`
	AvgTS     float64   `json:"avg_ts"` // tokens per second: mean of the rates
	StddevTS  float64   `json:"stddev_ts"`
	SamplesNS []int64   `json:"samples_ns"`
	SamplesTS []float64 `json:"samples_ts"`

	ModelLoadNS int64 `json:"model_load_ns"` // of the load that served this test
	// Time from the start of the prompt until its first token is chosen greedily; without a prompt 0 and none.
	AvgFirstNS     int64   `json:"avg_first_token_ns"`
	StddevFirstNS  int64   `json:"stddev_first_token_ns"`
	SamplesFirstNS []int64 `json:"samples_first_token_ns"`
	PeakMemory     int64   `json:"peak_memory"` // largest resident memory of the process in this test, bytes
}

// describe fills everything that is known before measuring.
func (r *runner) describe(in instance) (Result, error) {
	cpus, gpus, backends, err := machine()
	if err != nil {
		return Result{}, err
	}
	_, commit := llama.BuildInfo()
	return Result{
		BuildCommit: commit, BuildNumber: llama.BuildNumber(), CPUInfo: cpus, GPUInfo: gpus, Backends: backends,
		ModelFilename: in.model, ModelType: r.model.Desc(), ModelSize: r.model.Size(), ModelNParams: r.model.NumParams(),
		NBatch: in.nBatch, NUBatch: in.nUBatch, NThreads: in.nThreads, CPUMask: "0x0", Poll: 50,
		TypeK: "f16", TypeV: "f16", NGPULayers: in.nLayers, SplitMode: "layer", FlashAttn: -1, Devices: "auto",
		TensorSplit: "0.00", TensorBuft: "none", LoadMode: "mmap", LazyMode: "auto",
		NPrompt: in.nPrompt, NGen: in.nGen, NDepth: in.nDepth,
		TestTime: time.Now().UTC().Format(time.RFC3339), ModelLoadNS: r.loadTime.Nanoseconds(),
	}, nil
}

// machine names CPUs, GPUs and the backends other than the CPU's, as llama-bench does.
func machine() (cpus, gpus, backends string, err error) {
	devices, err := llama.Devices()
	if err != nil {
		return "", "", "", err
	}
	var cpu, gpu, names []string
	for _, d := range devices {
		switch d.Kind {
		case "cpu", "accel":
			cpu = append(cpu, d.Description)
		case "gpu", "igpu":
			gpu = append(gpu, d.Description)
		}
	}
	loaded, err := llama.Backends()
	if err != nil {
		return "", "", "", err
	}
	for _, b := range loaded {
		if b.Name != "CPU" {
			names = append(names, b.Name)
		}
	}
	if len(names) == 0 {
		names = []string{"CPU"}
	}
	return strings.Join(cpu, ", "), strings.Join(gpu, ", "), strings.Join(names, ","), nil
}

// sum fills the samples and what follows from them.
func (r *Result) sum(times, firsts []time.Duration) {
	r.SamplesNS, r.AvgNS, r.StddevNS = nanoseconds(times)
	r.SamplesFirstNS, r.AvgFirstNS, r.StddevFirstNS = nanoseconds(firsts)
	r.SamplesTS = make([]float64, len(times))
	for i, t := range times {
		r.SamplesTS[i] = float64(r.NPrompt+r.NGen) / t.Seconds()
	}
	r.AvgTS, r.StddevTS = meanDeviation(r.SamplesTS)
}

func nanoseconds(times []time.Duration) (samples []int64, mean, deviation int64) {
	samples = make([]int64, len(times))
	values := make([]float64, len(times))
	for i, t := range times {
		samples[i], values[i] = t.Nanoseconds(), float64(t.Nanoseconds())
	}
	m, d := meanDeviation(values)
	return samples, int64(m), int64(d)
}

// meanDeviation gives the mean and the sample standard deviation (divisor n−1); one sample has
// deviation 0, none has both 0.
func meanDeviation(x []float64) (mean, deviation float64) {
	switch len(x) {
	case 0:
		return 0, 0
	case 1:
		return x[0], 0
	}
	return stat.MeanStdDev(x, nil)
}
