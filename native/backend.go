package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// The row encoders need no backend, but they too may log and assert.
func init() { C.nl_hooks() }

var initOnce = sync.OnceValue(func() error {
	return check(C.nl_init(), "load backends", "from "+LibraryDir())
})

// Init loads the backends (CPU, CUDA, …) that lie in the folder of the loaded
// libllama. Everything that needs them calls it; more calls do nothing.
func Init() error { return initOnce() }

// Device is something a model can be put on.
type Device struct {
	Name        string // "CPU", "CUDA0"
	Description string // "NVIDIA H100 80GB HBM3"
	Backend     string // the name of its Backend
	Kind        string // "cpu", "gpu", "igpu", "accel" or "meta"
	Free, Total uint64 // bytes of memory
}

var deviceKinds = map[C.enum_ggml_backend_dev_type]string{
	C.GGML_BACKEND_DEVICE_TYPE_CPU:   "cpu",
	C.GGML_BACKEND_DEVICE_TYPE_GPU:   "gpu",
	C.GGML_BACKEND_DEVICE_TYPE_IGPU:  "igpu",
	C.GGML_BACKEND_DEVICE_TYPE_ACCEL: "accel",
	C.GGML_BACKEND_DEVICE_TYPE_META:  "meta",
}

// Devices lists the devices of the loaded backends.
func Devices() ([]Device, error) {
	if err := Init(); err != nil {
		return nil, err
	}
	var ds []Device
	for i := range C.ggml_backend_dev_count() {
		dev := C.ggml_backend_dev_get(i)
		var free, total C.size_t
		C.ggml_backend_dev_memory(dev, &free, &total)
		ds = append(ds, Device{
			Name:        C.GoString(C.ggml_backend_dev_name(dev)),
			Description: C.GoString(C.ggml_backend_dev_description(dev)),
			Backend:     C.GoString(C.ggml_backend_reg_name(C.ggml_backend_dev_backend_reg(dev))),
			Kind:        deviceKinds[C.ggml_backend_dev_type(dev)],
			Free:        uint64(free),
			Total:       uint64(total),
		})
	}
	return ds, nil
}

// Backend is a loaded backend library.
type Backend struct {
	Name string // "CPU", "CUDA"
	File string // the shared library's path
}

// Backends lists the loaded backends.
func Backends() ([]Backend, error) {
	if err := Init(); err != nil {
		return nil, err
	}
	var bs []Backend
	for i := range C.ggml_backend_reg_count() {
		reg := C.ggml_backend_reg_get(i)
		bs = append(bs, Backend{
			Name: C.GoString(C.ggml_backend_reg_name(reg)),
			File: takeString(C.nl_backend_file(reg)),
		})
	}
	return bs, nil
}

// hasGPU tells whether a device with its own memory is there.
func hasGPU() bool {
	ds, err := Devices()
	if err != nil {
		return false
	}
	for _, d := range ds {
		if d.Kind == "gpu" || d.Kind == "igpu" {
			return true
		}
	}
	return false
}

// CPUFeatures returns what the loaded CPU backend was built for and uses
// ("AVX2": "1", "AVX512": "1", …).
func CPUFeatures() (map[string]string, error) {
	if err := Init(); err != nil {
		return nil, err
	}
	r := C.nl_cpu_features()
	if err := check(r, "read CPU features", ""); err != nil {
		return nil, err
	}
	features := map[string]string{}
	for line := range strings.Lines(takeString((*C.char)(r.p))) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			features[name] = value
		}
	}
	return features, nil
}

// SystemInfo returns llama.cpp's own line about the loaded backends.
func SystemInfo() string {
	if Init() != nil {
		return ""
	}
	return C.GoString(C.llama_print_system_info())
}

// BuildInfo returns llama.cpp's version ("0.5.0") and the commit it was built from.
func BuildInfo() (version, commit string) {
	return C.GoString(C.llama_version()), C.GoString(C.nl_build_commit())
}

// BuildNumber returns llama.cpp's build number, 0 when it was built outside git.
func BuildNumber() int { return int(C.nl_build_number()) }

// LibraryDir returns the folder of the loaded libllama, where backends are looked for.
func LibraryDir() string {
	p := takeString(C.nl_library_path())
	if p == "" {
		return ""
	}
	return filepath.Dir(p)
}

// DefaultThreads returns how many threads a context uses when its parameters
// leave it open: the physical cores that this process may use.
func DefaultThreads() int {
	return max(1, min(int(C.nl_math_cpus()), runtime.GOMAXPROCS(0)))
}

// initNUMA switches on llama.cpp's NUMA support (memory and threads spread over
// all nodes). It acts once per process, before models are loaded.
var initNUMA = sync.OnceValue(func() error {
	if err := Init(); err != nil {
		return err
	}
	return check(C.nl_numa_init(C.GGML_NUMA_STRATEGY_DISTRIBUTE), "init numa", "")
})

// takeString copies a malloc'ed C string and frees it; nil gives "".
func takeString(p *C.char) string {
	if p == nil {
		return ""
	}
	defer C.free(unsafe.Pointer(p))
	return C.GoString(p)
}

func cbool(b bool) C.bool { return C.bool(b) }
