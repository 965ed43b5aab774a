package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	indexName  = "model.safetensors.index.json"
	partPrefix = "model"
	partSuffix = ".safetensors"
)

// Model is a Hugging Face model folder with all of its safetensors files open.
// Its methods may be called from many goroutines at once; its fields are read-only.
type Model struct {
	Dir   string
	Files []*File // sorted by name

	tensors []*Tensor
	index   map[string]*Tensor
}

// OpenModel opens the weights of the model in the folder dir.
//
// Which files belong to it is decided as in ModelBase.index_tensors of
// llama.cpp's conversion/base.py: the files that model.safetensors.index.json
// names, or without that every file model*.safetensors. Beyond the reference,
// it is an error if a file of the index lies outside the folder or is missing,
// if a number of a series model-0000i-of-0000N is missing, if a tensor is in two
// files, or if the index and the files disagree about a tensor in either direction.
//
// A file of the index may be a symbolic link that leaves the folder only in the
// layout of the Hugging Face cache, where snapshots/REV holds links into ../../blobs.
//
// Pickle files (pytorch_model*.bin) are never read.
func OpenModel(dir string) (*Model, error) {
	m := &Model{Dir: dir, index: make(map[string]*Tensor)}
	if err := m.open(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Model) open() error {
	if st, err := os.Stat(m.Dir); err != nil {
		return fmt.Errorf("open model %s: %w", m.Dir, unwrapPath(err))
	} else if !st.IsDir() {
		return fmt.Errorf("open model %s: got a file, want a folder", m.Dir)
	}
	index, err := readIndex(filepath.Join(m.Dir, indexName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var names []string
	if index != nil {
		names, err = m.indexedParts(index)
	} else {
		names, err = m.listedParts()
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := m.add(name); err != nil {
			return err
		}
	}
	if index != nil {
		return m.checkIndex(index)
	}
	return nil
}

// indexedParts gives the sorted names of the files in the index after checking each.
func (m *Model) indexedParts(index *weightMap) ([]string, error) {
	var names []string
	seen := make(map[string]bool)
	for _, tensor := range index.tensors {
		name := index.file[tensor]
		if seen[name] {
			continue
		}
		seen[name] = true
		if err := checkPartPath(m.Dir, name); err != nil {
			return nil, fmt.Errorf("open model %s: %s: tensor %q: file %q: %w", m.Dir, indexName, tensor, name, err)
		}
		names = append(names, name)
	}
	if len(names) == 0 || len(names) > MaxShards {
		return nil, fmt.Errorf("open model %s: %s: got %d files, want 1 to %d", m.Dir, indexName, len(names), MaxShards)
	}
	slices.Sort(names)
	return names, nil
}

// checkPartPath refuses names of the index that leave the folder.
func checkPartPath(dir, name string) error {
	if !strings.HasSuffix(name, partSuffix) {
		return fmt.Errorf("got this name, want one that ends in %s", partSuffix)
	}
	if !filepath.IsLocal(name) {
		return errors.New("got a path that leaves the folder, want one inside it")
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return unwrapPath(err)
	}
	target, err := filepath.EvalSymlinks(filepath.Join(root, name))
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("missing shard: got no such file in the folder, want it as the index says")
	}
	if err != nil {
		return unwrapPath(err)
	}
	if !inside(root, target) && !inCache(root, target) {
		return fmt.Errorf("got a symbolic link to %s, which leaves the folder, want a file inside it", target)
	}
	return nil
}

// inside reports whether target is below root; both are free of symbolic links.
func inside(root, target string) bool {
	rel, err := filepath.Rel(root, target)
	return err == nil && filepath.IsLocal(rel)
}

// inCache reports whether root is a snapshot in the Hugging Face cache
// (models--ORG--NAME/snapshots/REV) and target one of the blobs of that model.
func inCache(root, target string) bool {
	snapshots := filepath.Dir(root)
	repo := filepath.Dir(snapshots)
	return filepath.Base(snapshots) == "snapshots" && strings.HasPrefix(filepath.Base(repo), "models--") &&
		filepath.Dir(target) == filepath.Join(repo, "blobs")
}

// listedParts gives the sorted names of the files model*.safetensors in the folder.
func (m *Model) listedParts() ([]string, error) {
	entries, err := os.ReadDir(m.Dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", m.Dir, unwrapPath(err))
	}
	var names, others, pickles []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, partPrefix) && strings.HasSuffix(name, partSuffix):
			names = append(names, name)
		case strings.HasSuffix(name, partSuffix):
			others = append(others, name)
		case strings.HasSuffix(name, ".bin") || strings.HasSuffix(name, ".pt") || strings.HasSuffix(name, ".pth"):
			pickles = append(pickles, name)
		}
	}
	switch {
	case len(names) > MaxShards:
		return nil, fmt.Errorf("open model %s: got %d files, want at most %d", m.Dir, len(names), MaxShards)
	case len(names) > 0:
		return names, m.checkSeries(names)
	case len(others) > 0:
		return nil, fmt.Errorf("open model %s: got only %s, want model*.safetensors or %s", m.Dir, strings.Join(others, ", "), indexName)
	case len(pickles) > 0:
		return nil, fmt.Errorf("open model %s: got only %s, want model*.safetensors (pickle is never read, because loading it can run any code; save the model again with save_pretrained(…, safe_serialization=True))", m.Dir, strings.Join(pickles, ", "))
	}
	return nil, fmt.Errorf("open model %s: got no weights, want model.safetensors or %s", m.Dir, indexName)
}

var seriesName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.safetensors$`)

// checkSeries checks that of model-00001-of-0000N.safetensors every number is there.
func (m *Model) checkSeries(names []string) error {
	for _, name := range names {
		part := seriesName.FindStringSubmatch(name)
		if part == nil {
			continue
		}
		count, _ := strconv.Atoi(part[3]) // five digits
		for i := 1; i <= count; i++ {
			want := fmt.Sprintf("%s-%05d-of-%05d%s", part[1], i, count, partSuffix)
			if _, ok := slices.BinarySearch(names, want); !ok {
				return fmt.Errorf("open model %s: missing shard: got %s, want %s beside it", m.Dir, name, want)
			}
		}
	}
	return nil
}

// add opens a file of the model and takes in its tensors.
func (m *Model) add(name string) error {
	f, err := Open(filepath.Join(m.Dir, name))
	if err != nil {
		return err
	}
	m.Files = append(m.Files, f)
	sorted := slices.SortedFunc(slices.Values(f.Tensors), func(a, b *Tensor) int { return cmp.Compare(a.Name, b.Name) })
	for _, t := range sorted {
		if other, ok := m.index[t.Name]; ok {
			return fmt.Errorf("open safetensors %s: tensor %q: got it again, want it in %s only", f.Path, t.Name, other.File.Path)
		}
		m.index[t.Name] = t
		m.tensors = append(m.tensors, t)
	}
	return nil
}

// checkIndex compares the index with the files.
func (m *Model) checkIndex(index *weightMap) error {
	for _, name := range index.tensors {
		want := filepath.Join(m.Dir, index.file[name])
		t, ok := m.index[name]
		if !ok {
			return fmt.Errorf("open safetensors %s: tensor %q: not in the file, want it as %s says", want, name, indexName)
		}
		if t.File.Path != want {
			return fmt.Errorf("open safetensors %s: tensor %q: got it here, want it in %s as %s says", t.File.Path, name, want, indexName)
		}
	}
	for _, t := range m.tensors {
		if _, ok := index.file[t.Name]; !ok {
			return fmt.Errorf("open safetensors %s: tensor %q: not in %s, want every tensor of a file there", t.File.Path, t.Name, indexName)
		}
	}
	return nil
}

// Tensors gives the tensors in the reference converter's order: files by name,
// and in a file the tensors by name, both in byte order. The slice is shared.
func (m *Model) Tensors() []*Tensor { return m.tensors }

// Tensor gives the tensor called name.
func (m *Model) Tensor(name string) (*Tensor, bool) {
	t, ok := m.index[name]
	return t, ok
}

// Bytes gives the size of all tensors.
func (m *Model) Bytes() int64 {
	var n int64
	for _, t := range m.tensors {
		n += t.Bytes()
	}
	return n
}

// Close closes every file.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.Files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
