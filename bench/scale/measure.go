package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

// measure runs the steps of a group in turns, each time on a fresh output.
func (g group) measure(ctx context.Context, o options) ([]figure.Step, error) {
	out := make([]figure.Step, len(g.steps))
	for range max(o.rounds, 1) {
		for i, s := range g.steps {
			fmt.Fprintf(os.Stderr, "%s: %s\n", o.shape, s.name)
			cost, err := s.run(ctx, o.cold)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			f := &out[i]
			f.Shape, f.Task, f.Tool, f.Name, f.Cold = o.shape, s.task, s.tool, s.name, o.cold
			f.Costs = append(f.Costs, cost)
			if f.Input, err = sizeOf(s.input); err != nil {
				return nil, err
			}
			if s.output != "" {
				if f.Output, err = sizeOf(s.output); err != nil {
					return nil, err
				}
			}
			if s.tool == figure.Copy && s.output != "" {
				if err := os.RemoveAll(s.output); err != nil {
					return nil, err
				}
			}
		}
		if err := removeAll(g.after); err != nil {
			return nil, err
		}
	}
	for _, pair := range g.equal {
		if err := equalFiles(pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	return out, removeAll(g.remove)
}

func removeAll(paths []string) error {
	var err error
	for _, path := range paths {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// rest is for the disk, which is told after the sync what was deleted, and where it has a cache of its own goes on writing
// what the step before wrote: a second, and one for each GB that a step reads.
func (s step) rest() time.Duration {
	size, _ := sizeOf(s.input) // an error comes again when it is read
	return time.Duration(1+size>>30) * time.Second
}

// run measures one process.
func (s step) run(ctx context.Context, cold bool) (figure.Cost, error) {
	if s.output != "" {
		if err := os.RemoveAll(s.output); err != nil {
			return figure.Cost{}, err
		}
	}
	unix.Sync() // the writing of files before is not this step's
	time.Sleep(s.rest())
	if err := cache(s.input, !cold); err != nil {
		return figure.Cost{}, err
	}
	return figure.Process(ctx, s.argv...)
}

// cache brings a file, or the files of a folder, into the page cache, or takes them out of it.
func cache(path string, in bool) error {
	return filepath.Walk(path, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if in {
			_, err = io.Copy(io.Discard, f)
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// sizeOf is the size of a file or of all files in a folder, in bytes.
func sizeOf(path string) (int64, error) {
	var size int64
	err := filepath.Walk(path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// equalFiles gives an error unless the files are equal byte for byte. The converter writes the name of the model's
// folder, which is the same for both.
func equalFiles(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return fmt.Errorf("%s and %s differ", a, b)
		}
		ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
		switch {
		case ended(errA) && ended(errB):
			fmt.Fprintf(os.Stderr, "%s equals %s byte for byte\n", strings.TrimPrefix(a, filepath.Dir(a)+"/"), strings.TrimPrefix(b, filepath.Dir(b)+"/"))
			return nil
		case errA != nil || errB != nil:
			return errors.Join(errA, errB)
		}
	}
}
