package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"
)

// Adapter is a LoRA adapter loaded for one model. Contexts of that model apply
// it with SetAdapters.
type Adapter struct {
	refs
	model *Model
	path  string
	ptr   *C.struct_llama_adapter_lora
}

// LoadAdapter loads a LoRA adapter (GGUF, general.type adapter) and checks it
// against the model: architecture, tensor names, pairs and shapes.
func (m *Model) LoadAdapter(path string) (*Adapter, error) {
	ptr, err := m.use()
	if err != nil {
		return nil, fmt.Errorf("load adapter %s: %w", path, err)
	}
	if m.vocabOnly {
		m.release()
		return nil, fmt.Errorf("load adapter %s: model %s was loaded without weights", path, m.path)
	}
	cpath, err := cString(path)
	if err != nil {
		m.release()
		return nil, fmt.Errorf("load adapter %q: %w", path, err)
	}
	defer C.free(unsafe.Pointer(cpath))
	m.adapters.Lock() // the C model keeps a set of its adapters, without a lock
	r := C.nl_adapter_load(ptr, cpath)
	m.adapters.Unlock()
	if err := check(r, "load adapter", path); err != nil {
		m.release()
		return nil, err
	}
	a := &Adapter{model: m, path: path, ptr: (*C.struct_llama_adapter_lora)(r.p)}
	a.refs.free = func() {
		m.adapters.Lock()
		_ = check(C.nl_adapter_free(a.ptr), "free adapter", path)
		m.adapters.Unlock()
		m.release()
	}
	return a, nil
}

// use returns the C adapter for the length of one call; the caller must release.
func (a *Adapter) use() (*C.struct_llama_adapter_lora, error) {
	if a == nil {
		return nil, fmt.Errorf("adapter: %w", ErrClosed)
	}
	if err := a.acquire(); err != nil {
		return nil, fmt.Errorf("adapter %s: %w", a.path, err)
	}
	return a.ptr, nil
}

// Close frees the adapter, once no context applies it any more.
func (a *Adapter) Close() error {
	if a != nil {
		a.refs.close()
	}
	return nil
}

// Path returns the file the adapter was loaded from.
func (a *Adapter) Path() string { return a.path }

// Meta returns a scalar or string of the adapter's metadata as text, such as
// "adapter.lora.alpha".
func (a *Adapter) Meta(key string) (string, bool) {
	p, err := a.use()
	if err != nil {
		return "", false
	}
	defer a.release()
	ck, err := cString(key)
	if err != nil {
		return "", false
	}
	defer C.free(unsafe.Pointer(ck))
	if C.llama_adapter_meta_val_str(p, ck, nil, 0) < 0 {
		return "", false
	}
	return sized(func(buf *C.char, n C.size_t) C.int32_t {
		return C.llama_adapter_meta_val_str(p, ck, buf, n)
	}), true
}

// AdapterScale is an adapter and how strongly it acts.
type AdapterScale struct {
	Adapter *Adapter
	Scale   float32
}

// SetAdapters applies these LoRA adapters and no others; none takes all away.
func (c *ModelContext) SetAdapters(as []AdapterScale) error {
	if err := c.use("set adapters"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	n := len(as)
	ptrs := (*[1 << 16]*C.struct_llama_adapter_lora)(C.calloc(C.size_t(n+1), C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(ptrs))
	scales := make([]C.float, n+1)
	var held []*Adapter
	release := func(list []*Adapter) {
		for _, a := range list {
			a.release()
		}
	}
	for i, a := range as {
		p, err := a.Adapter.use()
		if err == nil {
			held = append(held, a.Adapter)
			switch {
			case a.Adapter.model != c.model:
				err = fmt.Errorf("adapter %s: it was loaded for another model", a.Adapter.path)
			case math.IsNaN(float64(a.Scale)) || math.IsInf(float64(a.Scale), 0):
				err = fmt.Errorf("adapter %s: scale: got %v, want a number", a.Adapter.path, a.Scale)
			}
		}
		if err != nil {
			release(held)
			return fmt.Errorf("set adapters: %w", err)
		}
		ptrs[i], scales[i] = p, C.float(a.Scale)
	}
	if err := c.check(C.nl_set_adapters(c.ptr, &ptrs[0], &scales[0], C.size_t(n)), "set adapters"); err != nil {
		release(held)
		return err
	}
	release(c.adapters)
	c.adapters = held
	return nil
}
