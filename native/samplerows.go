package llama

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"sync"
)

// SampledRow is one of the choices that SampleRows makes.
type SampledRow struct {
	Index   int      // token of the last decode, as for Sample
	Sampler *Sampler // not that of another row

	Token Token // the choice
	EOG   bool  // it ends the generation; the sampler has not accepted it
	Err   error // of this row alone
}

// SampleRows is Sample and Accept for several sequences of c's last decode, in one C call for each of workers
// goroutines, which take equal parts. An error of one row is in the row; that of all is returned.
func (c *ModelContext) SampleRows(rows []SampledRow, workers int) error {
	if len(rows) == 0 {
		return nil
	}
	if err := c.use("sample rows"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	logits, err := c.rowLogits(rows)
	if err != nil {
		return fmt.Errorf("sample rows: %w", err)
	}
	workers = min(max(workers, 1), len(rows))
	var wg sync.WaitGroup
	for w := range workers {
		from, to := w*len(rows)/workers, (w+1)*len(rows)/workers
		if w == workers-1 {
			c.sampleRows(rows[from:to], logits[from:to]) // on the calling thread
		} else {
			wg.Go(func() { c.sampleRows(rows[from:to], logits[from:to]) })
		}
	}
	wg.Wait()
	return nil
}

// rowLogits gives the rows' logits in C memory.
func (c *ModelContext) rowLogits(rows []SampledRow) ([]*C.float, error) {
	index, logits := make([]C.int32_t, len(rows)), make([]*C.float, len(rows))
	for i, r := range rows {
		var err error
		if index[i], err = c.row("logits", r.Index); err != nil {
			return nil, err
		}
	}
	return logits, c.check(C.nl_logits_rows(c.ptr, &index[0], C.int32_t(len(rows)), &logits[0]), "logits")
}

// sampleRows chooses for rows that are one worker's.
func (c *ModelContext) sampleRows(rows []SampledRow, logits []*C.float) {
	samplers := make([]*C.nl_sampler, 0, len(rows))
	places := make([]int, 0, len(rows)) // of the samplers in rows
	usable := make([]*C.float, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.Err = r.Sampler.use("sample"); r.Err != nil {
			continue
		}
		defer r.Sampler.mu.Unlock()
		if got, want := c.model.nVocab, r.Sampler.model.nVocab; got != want {
			r.Err = fmt.Errorf("sample: vocabulary of the context: got %d tokens, want the sampler's %d", got, want)
			continue
		}
		samplers, places, usable = append(samplers, r.Sampler.ptr), append(places, i), append(usable, logits[i])
	}
	tokens, ends := make([]C.int32_t, len(places)), make([]C.bool, len(places))
	for from := 0; from < len(places); {
		r := C.nl_sample_rows(c.model.vocab, &samplers[from], &usable[from], C.int32_t(len(places)-from), &tokens[from], &ends[from])
		for done := from + int(r.n); from < done; from++ {
			rows[places[from]].Token, rows[places[from]].EOG = Token(tokens[from]), bool(ends[from])
		}
		if from < len(places) {
			row := &rows[places[from]]
			row.Token, row.Err = -1, row.Sampler.check(r, "sample")
			from++
		}
	}
}
