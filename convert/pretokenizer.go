package convert

import (
	"fmt"
	"slices"
	"strings"
)

// preRule names the tokenizer.ggml.pre of one pre-tokenizer. The first rule
// whose stages and conditions all hold decides.
type preRule struct {
	stages []string // see preStages
	name   string
	archs  []string // Hugging Face architectures it is limited to; none: all
	when   func(tokenizer *object) bool
}

// recognizePre names the pre-tokenizer of tokenizer.json by its structure. The
// reference encodes a fixed text and looks up the digest of the result
// (get_vocab_base_pre in llamacpp/conversion/base.py), which changes with every
// added token and so fails for fine-tuned vocabularies.
func recognizePre(tokenizer *object, path, hfArch string) (string, error) {
	stages := preStages(tokenizer)
	for _, r := range preRules {
		if slices.Equal(r.stages, stages) && (len(r.archs) == 0 || slices.Contains(r.archs, hfArch)) &&
			(r.when == nil || r.when(tokenizer)) {
			return r.name, nil
		}
	}
	return "", fmt.Errorf("read %s: pre_tokenizer: not known: got the stages [%s]; name the llama.cpp pre-tokenizer that splits text the same way "+
		"(tokenizer.ggml.pre, for example one of %s)", path, strings.Join(stages, ", "), strings.Join(preNames(), ", "))
}

// preNames lists the names that the table can give.
func preNames() []string {
	var names []string
	for _, r := range preRules {
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	slices.Sort(names)
	return names
}

// preStages writes the normalizer and the pre-tokenizer of tokenizer.json as a
// list of stages, one string each:
//
//	split EXPR          Split by a regex, matches isolated
//	gpt2                ByteLevel with its own regex (GPT-2's)
//	bytes               ByteLevel without
//	digits, digits+     Digits one by one, or in runs
//	TYPE …              anything else, with what distinguishes it
func preStages(tokenizer *object) []string {
	var stages []string
	flatten(tokenizer.object("normalizer"), "normalizers", func(o *object) {
		typ, _ := o.string("type")
		if !slices.Contains(writtenNormalizers, typ) && (typ != "BertNormalizer" || boolean(o, "handle_chinese_chars", true)) {
			stages = append(stages, "normalizer "+typ)
		}
	})
	flatten(tokenizer.object("pre_tokenizer"), "pretokenizers", func(o *object) {
		stages = append(stages, preStage(o))
	})
	return stages
}

// writtenNormalizers leave no stage: llama.cpp knows no Unicode normal forms,
// and the other two become keys of their own.
var writtenNormalizers = []string{"NFC", "NFKC", "NFD", "NFKD", "Lowercase", "StripAccents"}

// boolean reads a flag of a stage that has a default.
func boolean(o *object, key string, absent bool) bool {
	v, ok := o.get(key)
	if !ok {
		return absent
	}
	b, _ := v.(bool)
	return b
}

// flatten calls f for a stage, or in order for the stages of a Sequence.
func flatten(o *object, key string, f func(*object)) {
	if o == nil {
		return
	}
	if typ, _ := o.string("type"); typ != "Sequence" {
		f(o)
		return
	}
	v, _ := o.get(key)
	list, _ := v.([]any)
	for _, item := range list {
		inner, _ := item.(*object)
		flatten(inner, key, f)
	}
}

func preStage(o *object) string {
	typ, _ := o.string("type")
	switch typ {
	case "Split":
		return splitStage(o, boolean(o, "invert", false))
	case "ByteLevel":
		stage := "bytes"
		if boolean(o, "use_regex", true) {
			stage = "gpt2"
		}
		if boolean(o, "add_prefix_space", true) {
			stage += " with a space in front"
		}
		return stage
	case "Digits":
		if boolean(o, "individual_digits", false) {
			return "digits"
		}
		return "digits+"
	case "Punctuation":
		behavior, _ := o.string("behavior")
		return strings.TrimSpace("Punctuation " + behavior)
	}
	return typ
}

func splitStage(o *object, invert bool) string {
	behavior, _ := o.string("behavior")
	expr, isRegex := o.object("pattern").string("Regex")
	if !isRegex {
		text, _ := o.object("pattern").string("String")
		return fmt.Sprintf("Split %s at %q", behavior, text)
	}
	expr = canonicalRegex(expr)
	// Removing everything outside the matches is isolating them, where the
	// expression matches every character, as all of these do.
	if behavior == "Isolated" && !invert || behavior == "Removed" && invert {
		return "split " + expr
	}
	return fmt.Sprintf("Split %s invert=%v %s", behavior, invert, expr)
}

// canonicalRegex spells line ends and tabs as escapes: some files hold them as
// such, some as the characters.
func canonicalRegex(expr string) string {
	return strings.NewReplacer("\r", `\r`, "\n", `\n`, "\t", `\t`).Replace(expr)
}

// ignoresMerges reports model.ignore_merges: words that are in the vocabulary
// are taken whole.
func ignoresMerges(tokenizer *object) bool {
	v, _ := tokenizer.object("model").get("ignore_merges")
	b, _ := v.(bool)
	return b
}

// hasAddedToken reports whether an added token has this text.
func hasAddedToken(text string) func(*object) bool {
	return func(tokenizer *object) bool {
		v, _ := tokenizer.get("added_tokens")
		list, _ := v.([]any)
		return slices.ContainsFunc(list, func(item any) bool {
			o, _ := item.(*object)
			content, _ := o.string("content")
			return content == text
		})
	}
}
