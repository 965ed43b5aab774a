package testmodel

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Piece types of sentencepiece_model.proto.
const (
	pieceNormal      = 1
	pieceUnknown     = 2
	pieceControl     = 3
	pieceUserDefined = 4
	pieceUnused      = 5
	pieceByte        = 6
)

// piece is one entry of a SentencePiece model.
type piece struct {
	text  string
	score float32
	typ   int
}

// spm describes a tokenizer.model.
type spm struct {
	first  []piece // ids 0, 1, …
	merges int
	last   []piece
}

// pieces returns the vocabulary in id order: special pieces, bytes, merged
// pieces with falling scores, then single characters.
func (s *spm) pieces() ([]piece, error) {
	list := append([]piece(nil), s.first...)
	for i := range 256 {
		list = append(list, piece{fmt.Sprintf("<0x%02X>", i), 0, pieceByte})
	}
	words := corpusWords(func(w string) string { return "▁" + strings.TrimPrefix(w, " ") })
	var chars []string
	seen := map[string]bool{}
	for _, w := range words {
		for _, c := range w.symbols {
			if !seen[c] {
				seen[c] = true
				chars = append(chars, c)
			}
		}
	}
	merges, err := learnMerges(words, s.merges)
	if err != nil {
		return nil, err
	}
	score := float32(0)
	add := func(text string) {
		list = append(list, piece{text, score, pieceNormal})
		score--
	}
	done := map[string]bool{}
	for _, m := range merges {
		if text := m[0] + m[1]; !done[text] {
			done[text] = true
			add(text)
		}
	}
	for _, c := range chars {
		add(c)
	}
	return append(list, s.last...), nil
}

// protobuf wire format, as much as a ModelProto needs.
func appendField(b []byte, num, wire uint64) []byte { return binary.AppendUvarint(b, num<<3|wire) }

func appendVarint(b []byte, num, v uint64) []byte {
	return binary.AppendUvarint(appendField(b, num, 0), v)
}

func appendBytes(b []byte, num uint64, v []byte) []byte {
	b = binary.AppendUvarint(appendField(b, num, 2), uint64(len(v)))
	return append(b, v...)
}

func appendFloat(b []byte, num uint64, v float32) []byte {
	return binary.LittleEndian.AppendUint32(appendField(b, num, 5), math.Float32bits(v))
}

// modelProto encodes pieces as a sentencepiece ModelProto of the BPE kind
// (google/sentencepiece, src/sentencepiece_model.proto).
func modelProto(pieces []piece) []byte {
	var out []byte
	for _, p := range pieces {
		var m []byte
		m = appendBytes(m, 1, []byte(p.text))
		m = appendFloat(m, 2, p.score)
		if p.typ != pieceNormal { // the default is left out, as the library does
			m = appendVarint(m, 3, uint64(p.typ))
		}
		out = appendBytes(out, 1, m)
	}
	var trainer []byte
	trainer = appendVarint(trainer, 3, 2)                   // model_type BPE
	trainer = appendVarint(trainer, 4, uint64(len(pieces))) // vocab_size
	trainer = appendVarint(trainer, 35, 1)                  // byte_fallback
	out = appendBytes(out, 2, trainer)
	var norm []byte
	norm = appendBytes(norm, 1, []byte("identity"))
	norm = appendVarint(norm, 3, 1) // add_dummy_prefix
	norm = appendVarint(norm, 4, 0) // remove_extra_whitespaces
	norm = appendVarint(norm, 5, 1) // escape_whitespaces
	return appendBytes(out, 3, norm)
}

// write writes tokenizer.model and returns the number of pieces.
func (s *spm) write(dir string) (int, error) {
	list, err := s.pieces()
	if err != nil {
		return 0, err
	}
	return len(list), os.WriteFile(filepath.Join(dir, "tokenizer.model"), modelProto(list), 0o644)
}

func controls(texts ...string) []piece {
	var out []piece
	for _, t := range texts {
		out = append(out, piece{t, 0, pieceControl})
	}
	return out
}

func llamaSPM() *spm {
	return &spm{first: append([]piece{{"<unk>", 0, pieceUnknown}}, controls("<s>", "</s>")...), merges: 40}
}

func mistralSPM() *spm {
	return &spm{first: append([]piece{{"<unk>", 0, pieceUnknown}}, controls("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]",
		"[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")...), merges: 40,
		last: []piece{{"[control_8]", 0, pieceUnused}}}
}

func gemmaSPM() *spm {
	first := []piece{{"<pad>", 0, pieceControl}, {"<eos>", 0, pieceControl}, {"<bos>", 0, pieceControl}, {"<unk>", 0, pieceUnknown},
		{"<mask>", 0, pieceUserDefined}, {"[multimodal]", 0, pieceUserDefined}, {"<unused0>", 0, pieceUserDefined},
		{"<start_of_turn>", 0, pieceControl}, {"<end_of_turn>", 0, pieceControl}, {"▁▁", 0, pieceUserDefined}}
	return &spm{first: first, merges: 40}
}
