package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"
)

// The sequences in a context's memory, and its state on disk.

func (c *ModelContext) checkSeq(op string, seq int32) error {
	if seq < 0 || int(seq) >= c.nSeqMax {
		return fmt.Errorf("%s: sequence out of range: got %d, want 0 to %d", op, seq, c.nSeqMax-1)
	}
	return nil
}

// MemoryClear forgets all sequences; data also zeroes the buffers.
func (c *ModelContext) MemoryClear(data bool) error {
	if err := c.useMemory("memory clear"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.check(C.nl_memory_clear(c.ptr, cbool(data)), "memory clear")
}

// SeqRemove removes positions p0 to p1-1 of a sequence; a negative p0 means from
// the start, a negative p1 to the end, a negative seq every sequence. It is false
// when the memory cannot forget a part of a sequence (recurrent models).
func (c *ModelContext) SeqRemove(seq, p0, p1 int32) (bool, error) {
	if err := c.useMemory("seq remove"); err != nil {
		return false, err
	}
	defer c.mu.Unlock()
	if int(seq) >= c.nSeqMax {
		return false, c.checkSeq("seq remove", seq)
	}
	r := C.nl_seq_rm(c.ptr, C.int32_t(max(seq, -1)), C.int32_t(p0), C.int32_t(p1))
	return r.n != 0, c.check(r, "seq remove")
}

// SeqCopy makes positions p0 to p1-1 of src also belong to dst. Unless the cache
// is unified only whole sequences can be copied.
func (c *ModelContext) SeqCopy(src, dst, p0, p1 int32) error {
	if err := c.useMemory("seq copy"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("seq copy", src); err != nil {
		return err
	}
	if err := c.checkSeq("seq copy", dst); err != nil {
		return err
	}
	last := int32(C.llama_memory_seq_pos_max(C.llama_get_memory(c.ptr.ctx), C.int32_t(src)))
	if part := p0 > 0 || (p1 >= 0 && p1 <= last); part && !c.unified && c.nSeqMax > 1 && src != dst {
		return fmt.Errorf("seq copy: positions %d to %d of sequence %d: only whole sequences can be copied unless KVUnified is set", p0, p1, src)
	}
	if !c.unified && p1 >= 0 {
		p1 = -1 // the whole sequence, in the only form llama.cpp takes
	}
	return c.check(C.nl_seq_cp(c.ptr, C.int32_t(src), C.int32_t(dst), C.int32_t(p0), C.int32_t(p1)), "seq copy")
}

// SeqKeep removes every sequence but this one.
func (c *ModelContext) SeqKeep(seq int32) error {
	if err := c.useMemory("seq keep"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("seq keep", seq); err != nil {
		return err
	}
	return c.check(C.nl_seq_keep(c.ptr, C.int32_t(seq)), "seq keep")
}

// SeqAdd adds delta to positions p0 to p1-1 of a sequence (see SeqRemove for
// negative bounds). The memory must be able to shift: CanShift.
func (c *ModelContext) SeqAdd(seq, p0, p1, delta int32) error {
	if err := c.useMemory("seq add"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("seq add", seq); err != nil {
		return err
	}
	if !bool(C.llama_memory_can_shift(C.llama_get_memory(c.ptr.ctx))) {
		return fmt.Errorf("seq add: the memory of model %s cannot shift positions", c.model.path)
	}
	return c.check(C.nl_seq_add(c.ptr, C.int32_t(seq), C.int32_t(p0), C.int32_t(p1), C.int32_t(delta)), "seq add")
}

// SeqDiv divides positions p0 to p1-1 of a sequence by d (self-extend).
func (c *ModelContext) SeqDiv(seq, p0, p1 int32, d int) error {
	if d < 1 || d > math.MaxInt32 {
		return fmt.Errorf("seq div: divisor: got %d, want 1 or more", d)
	}
	if err := c.useMemory("seq div"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("seq div", seq); err != nil {
		return err
	}
	if !bool(C.llama_memory_can_shift(C.llama_get_memory(c.ptr.ctx))) {
		return fmt.Errorf("seq div: the memory of model %s cannot shift positions", c.model.path)
	}
	return c.check(C.nl_seq_div(c.ptr, C.int32_t(seq), C.int32_t(p0), C.int32_t(p1), C.int32_t(d)), "seq div")
}

// SeqPosMin returns the smallest position of a sequence, -1 if it is empty.
func (c *ModelContext) SeqPosMin(seq int32) (int32, error) {
	if err := c.useMemory("seq pos min"); err != nil {
		return -1, err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("seq pos min", seq); err != nil {
		return -1, err
	}
	return int32(C.llama_memory_seq_pos_min(C.llama_get_memory(c.ptr.ctx), C.int32_t(seq))), nil
}

// SeqPosMax returns the largest position of a sequence, -1 if it is empty.
func (c *ModelContext) SeqPosMax(seq int32) (int32, error) {
	if err := c.useMemory("seq pos max"); err != nil {
		return -1, err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("seq pos max", seq); err != nil {
		return -1, err
	}
	return int32(C.llama_memory_seq_pos_max(C.llama_get_memory(c.ptr.ctx), C.int32_t(seq))), nil
}

// CanShift tells whether positions can be changed with SeqAdd.
func (c *ModelContext) CanShift() bool {
	if c.useMemory("can shift") != nil {
		return false
	}
	defer c.mu.Unlock()
	return bool(C.llama_memory_can_shift(C.llama_get_memory(c.ptr.ctx)))
}

// StateSize returns the bytes that State would return now.
func (c *ModelContext) StateSize() (int64, error) {
	if err := c.use("state size"); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	r := C.nl_state_size(c.ptr)
	return int64(r.n), c.check(r, "state size")
}

// State returns the sequences in memory as bytes (no logits, no sampler).
func (c *ModelContext) State() ([]byte, error) {
	if err := c.use("state"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r := C.nl_state_size(c.ptr)
	if err := c.check(r, "state"); err != nil {
		return nil, err
	}
	buf := make([]byte, int(r.n)+1)
	r = C.nl_state_get(c.ptr, (*C.uint8_t)(&buf[0]), C.size_t(len(buf)))
	if err := c.check(r, "state"); err != nil {
		return nil, err
	}
	return buf[:r.n], nil
}

// SetState replaces the sequences in memory with what State returned. After an
// error the memory is empty.
func (c *ModelContext) SetState(state []byte) error {
	if len(state) == 0 {
		return fmt.Errorf("set state: it is empty")
	}
	if err := c.use("set state"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	c.outputs = nil
	return c.afterLoad(C.nl_state_set(c.ptr, (*C.uint8_t)(&state[0]), C.size_t(len(state))), "set state")
}

// afterLoad empties the memory when a state could not be read.
func (c *ModelContext) afterLoad(r C.nl_result, op string) error {
	err := c.check(r, op)
	if err != nil && !c.broken && c.hasMemory {
		_ = c.check(C.nl_memory_clear(c.ptr, true), op)
	}
	return err
}

// SaveState writes the sequences in memory and the tokens they stand for to a
// file, in llama.cpp's session format. The file appears complete or not at all.
func (c *ModelContext) SaveState(path string, tokens []Token) error {
	if err := c.use("save state"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("save state %s: %w", path, err)
	}
	name := tmp.Name()
	defer os.Remove(name)
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("save state %s: %w", path, err)
	}
	cname, err := cString(name)
	if err != nil {
		return fmt.Errorf("save state %q: %w", path, err)
	}
	defer C.free(unsafe.Pointer(cname))
	r := C.nl_state_save(c.ptr, cname, (*C.int32_t)(unsafe.SliceData(tokens)), C.size_t(len(tokens)))
	if err := c.check(r, "save state "+path); err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		return fmt.Errorf("save state %s: %w", path, err)
	}
	return nil
}

// LoadState replaces the sequences in memory with those of a file written by
// SaveState and returns its tokens. After an error the memory is empty.
func (c *ModelContext) LoadState(path string) ([]Token, error) {
	if err := c.use("load state"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("load state %s: %w", path, err)
	}
	cpath, err := cString(path)
	if err != nil {
		return nil, fmt.Errorf("load state %q: %w", path, err)
	}
	defer C.free(unsafe.Pointer(cpath))
	c.outputs = nil
	tokens := make([]Token, c.nCtx)
	r := C.nl_state_load(c.ptr, cpath, (*C.int32_t)(&tokens[0]), C.size_t(len(tokens)))
	if err := c.afterLoad(r, "load state "+path); err != nil {
		return nil, err
	}
	return tokens[:r.n:r.n], nil
}

// SeqState returns one sequence as bytes.
func (c *ModelContext) SeqState(seq int32) ([]byte, error) {
	if err := c.useMemory("sequence state"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("sequence state", seq); err != nil {
		return nil, err
	}
	r := C.nl_seq_state_size(c.ptr, C.int32_t(seq))
	if err := c.check(r, "sequence state"); err != nil {
		return nil, err
	}
	buf := make([]byte, int(r.n)+1)
	r = C.nl_seq_state_get(c.ptr, (*C.uint8_t)(&buf[0]), C.size_t(len(buf)), C.int32_t(seq))
	if err := c.check(r, "sequence state"); err != nil {
		return nil, err
	}
	return buf[:r.n], nil
}

// SetSeqState makes sequence seq what SeqState returned, of any sequence.
func (c *ModelContext) SetSeqState(seq int32, state []byte) error {
	if len(state) == 0 {
		return fmt.Errorf("set sequence state: it is empty")
	}
	if err := c.useMemory("set sequence state"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("set sequence state", seq); err != nil {
		return err
	}
	return c.check(C.nl_seq_state_set(c.ptr, (*C.uint8_t)(&state[0]), C.size_t(len(state)), C.int32_t(seq)), "set sequence state")
}

// checkMemory refuses a cache in host memory that cannot fit, because Linux
// would grant it and end the process when it is first written.
func (m *Model) checkMemory(p ContextParams) error {
	if m.gpu && p.OffloadKQV {
		return nil // the GPU's allocator says no by itself
	}
	need := m.cacheBytes(p)
	free := availableMemory()
	if free > 0 && need > free {
		return fmt.Errorf("n_ctx %d: the cache needs %d MiB, free are %d MiB", p.NCtx, need>>20, free>>20)
	}
	return nil
}

// cacheBytes returns a lower bound of the cache's size. Layers with a sliding
// window or a recurrent state need less than the others, so one in eight counts.
func (m *Model) cacheBytes(p ContextParams) uint64 {
	layers := uint64(max(m.nLayer, 1))
	if (m.nSWA > 0 && !p.SWAFull) || m.recurrent {
		layers = (layers + 7) / 8
	}
	if m.recurrent && m.nHeadKV == 0 {
		return 0
	}
	arch, _ := m.metaLocked("general.architecture")
	head := 0
	if m.nHead > 0 {
		head = m.nEmbd / m.nHead
	}
	row := func(key string, t TensorType) float64 {
		n := head
		if s, ok := m.metaLocked(arch + ".attention." + key); ok {
			if v, err := strconv.Atoi(s); err == nil && v > 0 {
				n = v
			}
		}
		return float64(n*m.nHeadKV) * float64(t.TypeSize()) / float64(t.BlockSize())
	}
	bytes := float64(layers) * float64(p.NCtx) * (row("key_length", p.TypeK) + row("value_length", p.TypeV))
	return uint64(min(bytes, math.MaxInt64))
}

// availableMemory returns the bytes that can be allocated without pushing others
// out, or 0 where it is not known.
func availableMemory() uint64 {
	free := uint64(0)
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) >= 2 && (f[0] == "MemAvailable:" || f[0] == "SwapFree:") {
				kb, _ := strconv.ParseUint(f[1], 10, 64)
				free += kb << 10
			}
		}
	}
	limit, ok := readNumber("/sys/fs/cgroup/memory.max")
	used, ok2 := readNumber("/sys/fs/cgroup/memory.current")
	if ok && ok2 {
		if limit < used {
			return 1
		}
		free = min(free, limit-used)
	}
	return free
}

func readNumber(path string) (uint64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}
