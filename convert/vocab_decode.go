package convert

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decodePieces runs a decoder of tokenizer.json over token texts (the
// tokenizers library's Decoder::decode_chain). A nil decoder joins nothing and
// leaves a single token as it is.
func decodePieces(d *object, pieces []string) ([]string, error) {
	if d == nil {
		return []string{strings.Join(pieces, " ")}, nil
	}
	typ, _ := d.string("type")
	switch typ {
	case "ByteLevel":
		return []string{decodeByteLevel(pieces)}, nil
	case "Sequence":
		return decodeSequence(d, pieces)
	case "Replace":
		return decodeReplace(d, pieces)
	case "ByteFallback":
		return decodeByteFallback(pieces), nil
	case "Fuse":
		return []string{strings.Join(pieces, "")}, nil
	case "Strip":
		return decodeStrip(d, pieces)
	}
	return nil, fmt.Errorf("unsupported type: got %q, want ByteLevel, Sequence, Replace, ByteFallback, Fuse or Strip", typ)
}

func decodeSequence(d *object, pieces []string) ([]string, error) {
	v, _ := d.get("decoders")
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("decoders: got %s, want an array", jsonKind(v))
	}
	for _, item := range list {
		stage, ok := item.(*object)
		if !ok {
			return nil, fmt.Errorf("decoders: got %s, want objects", jsonKind(item))
		}
		var err error
		if pieces, err = decodePieces(stage, pieces); err != nil {
			return nil, err
		}
	}
	return pieces, nil
}

// decodeByteLevel turns byte symbols back into bytes. A token with any other
// character is taken literally, bytes that are no UTF-8 become U+FFFD.
func decodeByteLevel(pieces []string) string {
	var out []byte
	for _, p := range pieces {
		raw := make([]byte, 0, len(p))
		for _, r := range p {
			b, ok := symbolByte(r)
			if !ok {
				raw = []byte(p)
				break
			}
			raw = append(raw, b)
		}
		out = append(out, raw...)
	}
	return lossyUTF8(out)
}

// symbolByte inverts the byte alphabet of byte-level BPE: printable Latin-1
// characters stand for themselves, the other bytes for U+0100 and up in order.
func symbolByte(r rune) (byte, bool) {
	switch {
	case r >= '!' && r <= '~', r >= 0xa1 && r <= 0xac, r >= 0xae && r <= 0xff:
		return byte(r), true
	case r >= 0x100 && r <= 0x120: // 0x00 to 0x20
		return byte(r - 0x100), true
	case r >= 0x121 && r <= 0x142: // 0x7f to 0xa0
		return byte(r - 0x121 + 0x7f), true
	case r == 0x143:
		return 0xad, true
	}
	return 0, false
}

// lossyUTF8 replaces each longest invalid beginning of a sequence by one
// U+FFFD, as Rust's String::from_utf8_lossy does.
func lossyUTF8(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			n = 1
			for i := 2; i <= min(3, len(b)); i++ {
				if !utf8.FullRune(b[:i]) {
					n = i
				}
			}
			r = utf8.RuneError
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

func decodeReplace(d *object, pieces []string) ([]string, error) {
	pattern, ok := d.object("pattern").string("String")
	content, ok2 := d.string("content")
	if !ok || !ok2 || pattern == "" {
		return nil, fmt.Errorf("unsupported Replace: want pattern.String and content")
	}
	out := make([]string, len(pieces))
	for i, p := range pieces {
		out[i] = strings.ReplaceAll(p, pattern, content)
	}
	return out, nil
}

// decodeByteFallback turns runs of <0xNN> into text, or into one U+FFFD per
// byte where they are no UTF-8.
func decodeByteFallback(pieces []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if len(run) == 0 {
			return
		}
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			for range run {
				out = append(out, "\ufffd")
			}
		}
		run = nil
	}
	for _, p := range pieces {
		if len(p) == 6 && strings.HasPrefix(p, "<0x") && p[5] == '>' {
			if n, err := strconv.ParseUint(p[3:5], 16, 8); err == nil {
				run = append(run, byte(n))
				continue
			}
		}
		flush()
		out = append(out, p)
	}
	flush()
	return out
}

func decodeStrip(d *object, pieces []string) ([]string, error) {
	content, _ := d.string("content")
	start, _ := d.get("start")
	stop, _ := d.get("stop")
	first, ok1 := start.(int64)
	last, ok2 := stop.(int64)
	if utf8.RuneCountInString(content) != 1 || !ok1 || !ok2 {
		return nil, fmt.Errorf("unsupported Strip: want content of one character, start and stop")
	}
	out := make([]string, len(pieces))
	for i, p := range pieces {
		for n := int64(0); n < first && strings.HasPrefix(p, content); n++ {
			p = p[len(content):]
		}
		for n := int64(0); n < last && strings.HasSuffix(p, content); n++ {
			p = p[:len(p)-len(content)]
		}
		out[i] = p
	}
	return out, nil
}
