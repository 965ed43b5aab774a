// Package minhash finds texts that are nearly the same: MinHash over letter 5-grams by one permutation hashing
// (Li, Owen and Zhang 2012) with rotation for empty bins (Shrivastava and Li 2014), and banding, so that the
// cost of a text does not grow with the number of texts before it.
package minhash

import (
	"math"
	"math/bits"
	"strings"
	"unicode"
)

const (
	bins  = 256 // values of a sketch; the standard error of an estimate is at most 1/32
	gram  = 5   // letters of a shingle
	empty = math.MaxUint32
)

// Sketch stands for a text: the smallest hash of its shingles in every bin.
type Sketch [bins]uint32

// New returns an index that calls two texts nearly the same if they share at least the part threshold, 0 to 1,
// of the 5-letter pieces that either has (Jaccard similarity). 1 leaves only texts that differ in nothing but
// space, marks and case. A threshold outside that range panics.
func New(threshold float64) *Index {
	if !(threshold > 0 && threshold <= 1) {
		panic("minhash: threshold: want more than 0, at most 1")
	}
	x := &Index{threshold: threshold, rows: 1, buckets: map[uint64]int32{}}
	for _, rows := range []int{8, 4, 2} { // the most rows of a band that still find 999 of 1,000 pairs at the threshold
		if 1-math.Pow(1-math.Pow(threshold, float64(rows)), bins/float64(rows)) >= 0.999 {
			x.rows = rows
			break
		}
	}
	return x
}

// Index holds the texts that were added. It is not safe for concurrent use; Of is, and is most of the work.
type Index struct {
	threshold float64
	rows      int
	keys      []string
	sketches  []Sketch
	buckets   map[uint64]int32 // by hash of a band, 1 + the last text that has it
	next      []int32          // by text and band, 1 + the text before it in the bucket
	seen      []int            // by text, the number of the call of Add that last looked at it
	calls     int
}

// Add adds a text under a key unless it nearly equals one added before: then ok is false and duplicateOf the
// key of the one most alike, the first of several. A text without letters and digits is never a duplicate, and
// is not kept.
func (x *Index) Add(key, text string) (duplicateOf string, ok bool) {
	return x.AddSketch(key, Of(text))
}

// AddSketch is Add for a text whose sketch is made already.
func (x *Index) AddSketch(key string, s Sketch) (duplicateOf string, ok bool) {
	if s[0] == empty {
		return "", true
	}
	x.calls++
	best, bestSame := int32(-1), 0
	hashes := x.bands(&s)
	for band, h := range hashes {
		for at := x.buckets[h]; at > 0; at = x.next[int(at-1)*len(hashes)+band] {
			i := at - 1
			if x.seen[i] == x.calls {
				continue
			}
			x.seen[i] = x.calls
			if same := x.sketches[i].same(&s); same > bestSame || same == bestSame && i < best {
				best, bestSame = i, same
			}
		}
	}
	if best >= 0 && float64(bestSame) >= x.threshold*bins {
		return x.keys[best], false
	}
	for _, h := range hashes {
		x.next = append(x.next, x.buckets[h])
		x.buckets[h] = int32(len(x.keys)) + 1
	}
	x.keys, x.sketches, x.seen = append(x.keys, key), append(x.sketches, s), append(x.seen, 0)
	return "", true
}

// Len is the number of texts kept.
func (x *Index) Len() int { return len(x.keys) }

// bands hashes the rows of each band, with its number.
func (x *Index) bands(s *Sketch) []uint64 {
	out := make([]uint64, bins/x.rows)
	for band := range out {
		h := mix(uint64(band))
		for _, v := range s[band*x.rows : (band+1)*x.rows] {
			h = mix(h ^ uint64(v))
		}
		out[band] = h
	}
	return out
}

func (s *Sketch) same(t *Sketch) (n int) {
	for i := range s {
		if s[i] == t[i] {
			n++
		}
	}
	return n
}

// Similarity estimates the Jaccard similarity of two texts, 0 to 1.
func Similarity(a, b Sketch) float64 {
	if a[0] == empty || b[0] == empty {
		return 0
	}
	return float64(a.same(&b)) / bins
}

// Of makes the sketch of a text. Only letters, marks on them and digits count, in lower case.
func Of(text string) Sketch {
	var s Sketch
	for i := range s {
		s[i] = empty
	}
	letters := make([]rune, 0, len(text)/2)
	for _, r := range strings.ToLower(text) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			letters = append(letters, r)
		}
	}
	if len(letters) == 0 {
		return s
	}
	for i := range max(len(letters)-gram+1, 1) {
		h := uint64(1469598103934665603)
		for _, r := range letters[i:min(i+gram, len(letters))] {
			h = mix(h ^ uint64(r))
		}
		bin := h >> (64 - 8)
		s[bin] = min(s[bin], uint32(h)&^1) // even, so never the mark of an empty bin
	}
	fill(&s)
	return s
}

// fill gives an empty bin the value of the next one that is not, marked with the distance.
func fill(s *Sketch) {
	first := s[0]
	for i := 1; first == empty; i++ {
		first = s[i]
	}
	next, distance := first, uint32(0)
	for first = s[0]; distance < bins && first == empty; distance++ { // the distance over the end
		first = s[distance]
	}
	distance = max(distance, 1) - 1
	for i := bins - 1; i >= 0; i-- {
		if s[i] != empty {
			next, distance = s[i], 0
			continue
		}
		distance++
		s[i] = uint32(mix(uint64(next)<<16|uint64(distance))) &^ 1
	}
}

// mix is the finalizer of SplitMix64.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return bits.RotateLeft64(h^h>>31, 11)
}
