package llama

/*
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Importance collects, for every weight matrix of a model's blocks, the sums of
// squares of what it is multiplied with, column by column: what an importance
// matrix is made of (llama.cpp, tools/imatrix). One belongs to one context, made
// with it in ContextParams; every decode of that context adds to it. Rows that a
// decode leaves out of the last block, since no logits are wanted of them, are
// not in the sums: ask for the logits of all tokens.
type Importance struct {
	refs
	ptr *C.nl_importance
}

// NewImportance makes an empty one. Close may come before that of its context.
func NewImportance() (*Importance, error) {
	ptr := C.nl_importance_new()
	if ptr == nil {
		return nil, errors.New("new importance: out of memory")
	}
	i := &Importance{ptr: ptr}
	i.refs.free = func() { C.nl_importance_free(ptr) }
	return i, nil
}

// ImportanceEntry is one tensor. Sums has a row of columns for each of its
// matrices, Counts the rows that were added: one number for all of them, or one
// for every expert.
type ImportanceEntry struct {
	Name   string
	Sums   []float32
	Counts []int64
}

// Entries gives copies of all entries, by name. No decode may be under way.
func (i *Importance) Entries() ([]ImportanceEntry, error) {
	if err := i.use(); err != nil {
		return nil, fmt.Errorf("importance: %w", err)
	}
	defer i.release()
	if text := C.nl_importance_error(i.ptr); text != nil {
		return nil, fmt.Errorf("importance: %s", C.GoString(text))
	}
	var out []ImportanceEntry
	for k := range C.nl_importance_count(i.ptr) {
		e := C.nl_importance_at(i.ptr, k)
		entry := ImportanceEntry{Name: C.GoString(e.name)}
		entry.Sums = append(entry.Sums, unsafe.Slice((*float32)(e.sums), e.n_sums)...)
		entry.Counts = append(entry.Counts, unsafe.Slice((*int64)(e.counts), e.n_counts)...)
		out = append(out, entry)
	}
	return out, nil
}

// Close frees the sums.
func (i *Importance) Close() {
	if i != nil {
		i.close()
	}
}

// use adds a user, who must release.
func (i *Importance) use() error {
	if i == nil {
		return ErrClosed
	}
	return i.acquire()
}
