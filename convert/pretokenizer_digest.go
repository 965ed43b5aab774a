package convert

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// recognize names the pre-tokenizer: by the reference's digest where the
// vocabulary is one that the reference knows, so that the same name is written
// even where several share one behaviour; else by its structure.
func (l *vocabLoader) recognize(t *hfTokenizer, modelType string) (string, error) {
	digest, err := l.digest(t, modelType)
	if err != nil && !errors.Is(err, errNoDigest) {
		return "", err
	}
	if name, ok := knownDigests[digest]; ok && err == nil {
		return name, nil
	}
	return recognizePre(l.tokenizer, t.path, l.cfg.hfArch)
}

// digest is the SHA-256 of digestText's token ids, printed as a Python list.
func (l *vocabLoader) digest(t *hfTokenizer, modelType string) (string, error) {
	prefixSpace, _ := l.config.get("add_prefix_space")
	ids, err := t.encodeText(digestText, l.tokenizer, truthy(prefixSpace))
	if err != nil {
		return "", err
	}
	before, after, err := l.surroundings(t, modelType)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, list := range [][]int{before, ids, after} {
		for _, id := range list {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.Itoa(id))
		}
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte("["+b.String()+"]"))), nil
}

// surroundings returns the tokens that the post-processor puts around a text.
// The Llama and Gemma classes of transformers replace the file's post-processor
// by add_bos_token (true unless configured) and add_eos_token.
func (l *vocabLoader) surroundings(t *hfTokenizer, modelType string) (before, after []int, err error) {
	tc, err := l.readTokenConfig(modelType, nil)
	if err != nil {
		return nil, nil, err
	}
	if tc.class == "LlamaTokenizer" || tc.class == "GemmaTokenizer" {
		if v, ok := tc.values.get("add_bos_token"); !ok || truthy(v) {
			before, err = t.specialID(tc, "bos")
		}
		if v, _ := tc.values.get("add_eos_token"); truthy(v) && err == nil {
			after, err = t.specialID(tc, "eos")
		}
		return before, after, err
	}
	post := l.tokenizer.object("post_processor")
	flatten(post, "processors", func(o *object) {
		var b, a []int
		var stageErr error
		switch typ, _ := o.string("type"); typ {
		case "ByteLevel":
			return
		case "TemplateProcessing":
			b, a, stageErr = templateIDs(o)
		default:
			stageErr = errNoDigest
		}
		if stageErr != nil {
			err = stageErr
			return
		}
		before, after = append(b, before...), append(after, a...)
	})
	return before, after, err
}

// specialID is the id of a configured special token.
func (t *hfTokenizer) specialID(tc *tokenConfig, name string) ([]int, error) {
	v, ok := tc.values.get(name + "_token")
	if !ok {
		v = classDefaults[tc.class][name]
	}
	content, _ := tokenContent(v)
	id, ok := t.ids[content]
	if !ok {
		return nil, errNoDigest
	}
	return []int{id}, nil
}

// templateIDs returns the ids before and after the text in the single template
// of a TemplateProcessing.
func templateIDs(o *object) (before, after []int, err error) {
	v, _ := o.get("single")
	list, _ := v.([]any)
	seen := false
	for _, item := range list {
		name := part(item, "SpecialToken")
		if name == "" {
			seen = true
			continue
		}
		ids, err := templateToken(o, name)
		if err != nil {
			return nil, nil, err
		}
		if seen {
			after = append(after, ids...)
		} else {
			before = append(before, ids...)
		}
	}
	if !seen {
		return nil, nil, errNoDigest
	}
	return before, after, nil
}

// templateToken looks a special token up in the template's own table.
func templateToken(o *object, name string) ([]int, error) {
	v, _ := o.object("special_tokens").object(name).get("ids")
	list, ok := v.([]any)
	if !ok {
		return nil, errNoDigest
	}
	var ids []int
	for _, item := range list {
		id, ok := item.(int64)
		if !ok {
			return nil, errNoDigest
		}
		ids = append(ids, int(id))
	}
	return ids, nil
}
