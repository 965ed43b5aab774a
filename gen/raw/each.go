package raw

import (
	"context"

	"github.com/persona-gguf/persona-gguf/internal/pipe"
)

const (
	batchRows  = 64
	batchBytes = 1 << 20
	budget     = 96 << 20 // bytes of rows at work
)

// batch is a run of rows of one file.
type batch struct {
	file, from, to int
	bytes          int64
}

// Each calls work for every row of the files on several goroutines (workers; 0 for one per CPU), and emit with the
// results in order, on the caller's. progress, if there is one, is told the bytes done and in all.
func Each[T any](ctx context.Context, files []*File, workers int, work func(file, row int) (T, error),
	emit func(file, row int, v T) error, progress func(done, total int64)) error {
	var batches []batch
	var done, total int64
	for f, file := range files {
		b := batch{file: f}
		for i := range file.Len() {
			b.to, b.bytes = i+1, b.bytes+file.Size(i)
			if b.to-b.from == batchRows || b.bytes >= batchBytes || b.to == file.Len() {
				batches, total = append(batches, b), total+b.bytes
				b = batch{file: f, from: b.to}
			}
		}
	}
	return pipe.Ordered(ctx, pipe.Options{Workers: workers, Budget: budget}, len(batches),
		func(i int) int64 { return batches[i].bytes * 4 },
		func(_ context.Context, i int) ([]T, error) {
			b := batches[i]
			out := make([]T, 0, b.to-b.from)
			for row := b.from; row < b.to; row++ {
				v, err := work(b.file, row)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			return out, nil
		},
		func(i int, values []T) error {
			for k, v := range values {
				if err := emit(batches[i].file, batches[i].from+k, v); err != nil {
					return err
				}
			}
			if done += batches[i].bytes; progress != nil {
				progress(done, total)
			}
			return nil
		})
}

// OpenAll opens files; the caller closes them with CloseAll.
func OpenAll(paths []string) ([]*File, error) {
	var files []*File
	for _, path := range paths {
		f, err := Open(path)
		if err != nil {
			CloseAll(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// CloseAll closes files.
func CloseAll(files []*File) {
	for _, f := range files {
		f.Close()
	}
}
