package convert

import "slices"

// templateTokens are the special tokens around which a post-processor's
// templates are read. They start as in tokenizer_config.json and may be
// replaced by what the templates show.
type templateTokens struct {
	bos, cls, eos, sep any
	values             map[string]any // tokenizer_config.json; changes go here
	configured         bool           // there is a tokenizer_config.json
}

// truthy is Python's notion for the values a special token can have.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case *object:
		return v.len() > 0
	case bool:
		return v
	}
	return true
}

// same reports whether a template's token is the given configured one. One
// that is configured as an object is never the same, as in the reference.
func same(token string, configured any) bool {
	s, ok := configured.(string)
	return ok && s == token
}

// readPostProcessor decides from post_processor in tokenizer.json whether BOS,
// EOS and SEP are added, by the reference's rules for simple templates.
func (s *specialVocab) readPostProcessor(tokenizer *object, configured bool, values map[string]any) {
	t := &templateTokens{bos: values["bos_token"], cls: values["cls_token"], eos: values["eos_token"], sep: values["sep_token"],
		values: values, configured: configured}
	if !truthy(t.bos) && truthy(t.cls) {
		t.bos = t.cls
		values["bos_token"] = t.cls
	}
	if !truthy(t.eos) && truthy(t.sep) {
		t.eos = t.sep
		values["eos_token"] = t.sep
	}
	post := tokenizer.object("post_processor")
	list := []any{post}
	if v, ok := post.get("processors"); ok {
		list, _ = v.([]any)
	}
	for _, item := range list {
		p, _ := item.(*object)
		switch typ, _ := p.string("type"); typ {
		case "RobertaProcessing":
			s.roberta(t, p)
		case "TemplateProcessing":
			s.readTemplate(t, p)
		}
	}
}

// roberta: all three are added; cls and sep come from the processor if they
// are not configured.
func (s *specialVocab) roberta(t *templateTokens, p *object) {
	s.setAdd("bos", true)
	s.setAdd("eos", true)
	s.setAdd("sep", true)
	first := func(key string, other any) any {
		v, ok := p.get(key)
		if list, isList := v.([]any); ok && isList && len(list) > 0 {
			return list[0]
		}
		return other
	}
	if !truthy(t.cls) && t.configured {
		t.cls = first("cls", t.bos)
		t.values["cls_token"] = t.cls
	}
	if !truthy(t.sep) && t.configured {
		t.sep = first("sep", t.eos)
		t.values["sep_token"] = t.sep
	}
}

// part is one element of a template: a special token or a sequence.
func part(v any, kind string) string {
	o, _ := v.(*object)
	id, _ := o.object(kind).string("id")
	return id
}

// readTemplate reads a TemplateProcessing: its single template, then its pair.
func (s *specialVocab) readTemplate(t *templateTokens, p *object) {
	v, _ := p.get("single")
	single, _ := v.([]any)
	var first, last string
	if len(single) > 1 {
		if first = part(single[0], "SpecialToken"); first != "" {
			s.leading(t, first)
		}
		if last = part(single[len(single)-1], "SpecialToken"); last != "" {
			s.trailing(t, last)
		}
	}
	v, _ = p.get("pair")
	if pair, _ := v.([]any); len(pair) > 0 {
		s.pair(t, pair, first, last)
	}
}

func (s *specialVocab) leading(t *templateTokens, first string) {
	if !t.configured {
		t.bos = first
	} else if !same(first, t.bos) && !same(first, t.cls) {
		if !truthy(t.bos) {
			t.bos = first
			t.values["bos_token"] = first
		}
		if !truthy(t.cls) {
			t.cls = first
			t.values["cls_token"] = first
		}
	}
	s.setAdd("bos", same(first, t.bos) || same(first, t.cls))
}

// trailing: a token at the end that is not the configured EOS becomes EOS, and
// the configured one EOT, or EOM when EOT is taken.
func (s *specialVocab) trailing(t *templateTokens, last string) {
	if !t.configured {
		t.eos = last
	} else if !same(last, t.eos) {
		for _, typ := range []string{"eot", "eom"} {
			if !slices.Contains(s.types, typ) {
				s.types = append(s.types, typ)
				t.values[typ+"_token"] = t.eos
				break
			}
		}
		t.eos = last
		t.values["eos_token"] = last
	}
	s.setAdd("eos", same(last, t.eos))
}

// pair looks for a separator between the sequences A and B.
func (s *specialVocab) pair(t *templateTokens, pair []any, first, last string) {
	if first != "" && part(pair[0], "SpecialToken") == first {
		pair = pair[1:]
	}
	if len(pair) > 0 && last != "" && part(pair[len(pair)-1], "SpecialToken") == last {
		pair = pair[:len(pair)-1]
	}
	if len(pair) < 3 || part(pair[0], "Sequence") != "A" || part(pair[len(pair)-1], "Sequence") != "B" {
		return
	}
	middle := pair[1 : len(pair)-1]
	isEnd := func(token string) bool { return same(token, t.sep) || same(token, t.eos) }
	addSep := false
	if token := part(middle[0], "SpecialToken"); token != "" && isEnd(token) && last == "" {
		addSep = true
	}
	if len(middle) == 2 {
		if token := part(middle[1], "SpecialToken"); token != "" && isEnd(token) {
			addSep = true
		}
	}
	s.setAdd("sep", addSep)
	if addSep && !truthy(t.sep) && t.configured {
		t.values["sep_token"] = t.eos
	}
}
