package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// jsonReader reads JSON token by token: it keeps the order of keys and sees
// every duplicate, which decoding into a map would hide.
type jsonReader struct {
	dec *json.Decoder
}

func newJSONReader(text []byte) *jsonReader {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return &jsonReader{dec}
}

// token gives the next token; the end of the input is an error.
func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("json at byte %d: %w", r.dec.InputOffset(), err)
	}
	return t, nil
}

// object reads an object and calls value for every key, to read its value. A key that comes twice is an error.
func (r *jsonReader) object(value func(key string) error) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		key := t.(string) // the decoder allows nothing else here
		if seen[key] {
			return fmt.Errorf("key %q: got it a second time, want every key once", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	return r.delim('}')
}

// delim reads one of { } [ ].
func (r *jsonReader) delim(want json.Delim) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("got %s, want %q", describe(t), want)
	}
	return nil
}

// text reads a string.
func (r *jsonReader) text() (string, error) {
	t, err := r.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("got %s, want a string", describe(t))
	}
	return s, nil
}

// ints reads an array of at most most whole numbers that are not negative.
func (r *jsonReader) ints(most int) ([]int64, error) {
	if err := r.delim('['); err != nil {
		return nil, err
	}
	out := []int64{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		number, ok := t.(json.Number)
		if !ok {
			return nil, fmt.Errorf("element %d: got %s, want a number", len(out), describe(t))
		}
		n, err := strconv.ParseUint(number.String(), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("element %d: got %s, want a whole number from 0 to 2^63-1", len(out), number)
		}
		if len(out) == most {
			return nil, fmt.Errorf("got more than %d elements, want at most that many", most)
		}
		out = append(out, int64(n))
	}
	return out, r.delim(']')
}

// skip reads a value of any kind.
func (r *jsonReader) skip() error {
	var raw json.RawMessage
	if err := r.dec.Decode(&raw); err != nil {
		return fmt.Errorf("json at byte %d: %w", r.dec.InputOffset(), err)
	}
	return nil
}

// end checks that nothing but white space follows.
func (r *jsonReader) end() error {
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("json at byte %d: %w", r.dec.InputOffset(), err)
	}
	return fmt.Errorf("got %s after the object, want nothing", describe(t))
}

func describe(t json.Token) string {
	switch t := t.(type) {
	case string:
		return fmt.Sprintf("the string %.80q", t)
	case json.Delim:
		return fmt.Sprintf("%q", t.String())
	case json.Number:
		return "the number " + t.String()
	case nil:
		return "null"
	}
	return fmt.Sprint(t)
}
