package convert

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Limits on tokenizer.model. Real files are below 5 MB, pieces below 200 bytes.
const (
	maxSentencePieceFile = 256 << 20
	maxPieceLen          = 1 << 16
)

// spPiece is one entry of a SentencePiece model.
type spPiece struct {
	text  string
	score float32
	typ   uint64
}

// Types of a piece (google/sentencepiece, src/sentencepiece_model.proto).
const (
	spNormal      = 1
	spUnknown     = 2
	spControl     = 3
	spUserDefined = 4
	spUnused      = 5
	spByte        = 6
)

// protoField is one field of a protobuf message in wire format.
type protoField struct {
	num  uint64
	wire uint64
	n    uint64 // varint and fixed values
	data []byte // length-delimited values, a view into the message
}

// protoReader walks the fields of a message
// (https://protobuf.dev/programming-guides/encoding).
type protoReader struct{ rest []byte }

var errProtoTruncated = errors.New("truncated protobuf message")

// next returns the next field; ok is false at the end of the message.
func (p *protoReader) next() (f protoField, ok bool, err error) {
	if len(p.rest) == 0 {
		return f, false, nil
	}
	tag, err := p.varint()
	if err != nil {
		return f, false, err
	}
	f.num, f.wire = tag>>3, tag&7
	if f.num == 0 || f.num > 1<<29-1 {
		return f, false, fmt.Errorf("protobuf field number: got %d, want 1 to %d", f.num, 1<<29-1)
	}
	switch f.wire {
	case 0:
		f.n, err = p.varint()
	case 1:
		f.data, err = p.take(8)
		if err == nil {
			f.n = binary.LittleEndian.Uint64(f.data)
		}
	case 2:
		var n uint64
		if n, err = p.varint(); err == nil {
			f.data, err = p.take(n)
		}
	case 5:
		f.data, err = p.take(4)
		if err == nil {
			f.n = uint64(binary.LittleEndian.Uint32(f.data))
		}
	default:
		err = fmt.Errorf("protobuf wire type: got %d, want 0, 1, 2 or 5", f.wire)
	}
	return f, err == nil, err
}

func (p *protoReader) varint() (uint64, error) {
	v, n := binary.Uvarint(p.rest)
	if n == 0 {
		return 0, errProtoTruncated
	}
	if n < 0 {
		return 0, errors.New("protobuf varint beyond 64 bits")
	}
	p.rest = p.rest[n:]
	return v, nil
}

func (p *protoReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(p.rest)) {
		return nil, errProtoTruncated
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b, nil
}

// parseSentencePiece reads the pieces of a ModelProto and checks what the
// sentencepiece library checks when it loads one: no empty piece, none twice,
// exactly one unknown piece.
func parseSentencePiece(data []byte) ([]spPiece, error) {
	var pieces []spPiece
	seen := map[string]int{}
	unknown := -1
	r := protoReader{data}
	for {
		f, ok, err := r.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if f.num != 1 {
			continue // trainer, normalizer and denormalizer settings, self-test data
		}
		if f.wire != 2 {
			return nil, fmt.Errorf("piece %d: protobuf wire type: got %d, want 2", len(pieces), f.wire)
		}
		p, err := parsePiece(f.data)
		if err != nil {
			return nil, fmt.Errorf("piece %d: %w", len(pieces), err)
		}
		if other, ok := seen[p.text]; ok {
			return nil, fmt.Errorf("piece %d: %q is already piece %d", len(pieces), p.text, other)
		}
		if p.typ == spUnknown {
			if unknown >= 0 {
				return nil, fmt.Errorf("piece %d: second unknown piece, the first is %d", len(pieces), unknown)
			}
			unknown = len(pieces)
		}
		seen[p.text] = len(pieces)
		if pieces = append(pieces, p); len(pieces) > maxVocab {
			return nil, fmt.Errorf("pieces: want at most %d", maxVocab)
		}
	}
	if unknown < 0 {
		return nil, fmt.Errorf("no unknown piece among %d pieces, want exactly one", len(pieces))
	}
	return pieces, nil
}

// parsePiece reads one SentencePiece message: piece = 1, score = 2, type = 3.
func parsePiece(data []byte) (spPiece, error) {
	p := spPiece{typ: spNormal}
	r := protoReader{data}
	for {
		f, ok, err := r.next()
		if err != nil {
			return p, err
		}
		if !ok {
			break
		}
		want := map[uint64]uint64{1: 2, 2: 5, 3: 0}
		if w, known := want[f.num]; known && w != f.wire {
			return p, fmt.Errorf("field %d: protobuf wire type: got %d, want %d", f.num, f.wire, w)
		}
		switch f.num {
		case 1:
			p.text = string(f.data)
		case 2:
			p.score = math.Float32frombits(uint32(f.n))
		case 3:
			p.typ = f.n
		}
	}
	switch {
	case p.text == "":
		return p, errors.New("empty text")
	case len(p.text) > maxPieceLen:
		return p, fmt.Errorf("text of %d bytes, want at most %d", len(p.text), maxPieceLen)
	case !utf8.ValidString(p.text):
		return p, fmt.Errorf("text %q is no valid UTF-8", p.text)
	case p.typ < spNormal || p.typ > spByte:
		return p, fmt.Errorf("type: got %d, want %d to %d", p.typ, spNormal, spByte)
	case math.IsNaN(float64(p.score)) || math.IsInf(float64(p.score), 0):
		return p, fmt.Errorf("score: got %v, want a finite number", p.score)
	}
	return p, nil
}
