package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// llama.cpp's pooling types.
const (
	poolMean = uint32(1)
	poolCLS  = uint32(2)
	poolLast = uint32(3)
)

// poolingType writes pooling_type for embedding models: those whose
// modules.json, of sentence-transformers, has a pooling module
// (conversion/base.py, _try_set_pooling_type).
func (b *kvBuilder) poolingType() error {
	path := filepath.Join(b.c.dir, "modules.json")
	v, err := readJSON(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	modules, ok := v.([]any)
	if !ok {
		return fmt.Errorf("read %s: top level: got %s, want an array", path, jsonKind(v))
	}
	for i, v := range modules {
		mod, _ := v.(*object)
		kind, ok := mod.string("type")
		if !ok {
			return fmt.Errorf("read %s: module %d: no type", path, i)
		}
		if !strings.HasSuffix(kind, "Pooling") {
			continue
		}
		dir, ok := mod.string("path")
		if !ok || !filepath.IsLocal(filepath.FromSlash(dir)) && dir != "" {
			return fmt.Errorf("read %s: module %d: path: got %q, want a folder inside the model folder", path, i, dir)
		}
		pool, err := readPooling(filepath.Join(b.c.dir, filepath.FromSlash(dir), "config.json"))
		if err != nil {
			return err
		}
		return b.set("pooling_type", pool)
	}
	return nil
}

// readPooling reads the pooling mode out of a pooling module's config.json.
func readPooling(path string) (uint32, error) {
	o, err := readObject(path)
	if err != nil {
		return 0, err
	}
	for _, flag := range []struct {
		key string
		val uint32
	}{
		{"pooling_mode_mean_tokens", poolMean}, {"pooling_mode_cls_token", poolCLS}, {"pooling_mode_lasttoken", poolLast},
	} {
		if v, _ := o.get(flag.key); v == true {
			return flag.val, nil
		}
	}
	mode, _ := o.string("pooling_mode")
	if p, ok := map[string]uint32{"mean": poolMean, "cls": poolCLS, "lasttoken": poolLast}[mode]; ok {
		return p, nil
	}
	return 0, fmt.Errorf("read %s: unsupported pooling: want mean, cls or lasttoken", path)
}
