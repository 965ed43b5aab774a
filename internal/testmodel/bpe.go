package testmodel

import (
	"fmt"
	"strings"
)

// corpus is what the tiny vocabularies learn their merges from.
const corpus = `hello there my name is Snow White and I live in the forest with seven friends
the mirror on the wall knows who is the fairest of them all and the apple is red
who are you I am the princess of the little house behind the seven hills
you are kind and the birds sing in the morning while the dwarfs work in the mine
저는 백설공주예요 숲 속의 작은 집에서 일곱 난쟁이와 함께 살아요 만나서 반가워요
너는 누구야 당신의 이름이 뭐예요 저는 숲에서 노래하고 사과 파이를 만들어요
거울아 거울아 세상에서 누가 가장 예쁘니 왕비님도 아름답지만 백설공주가 더 예뻐요`

// byteSymbols returns the symbol of every byte in byte-level BPE: printable
// Latin-1 characters stand for themselves, the others for U+0100 and up
// (openai/gpt-2, src/encoder.py: bytes_to_unicode).
func byteSymbols() (symbol [256]rune, order []int) {
	printable := func(b int) bool {
		return '!' <= b && b <= '~' || 0xa1 <= b && b <= 0xac || 0xae <= b
	}
	for b := range 256 {
		if printable(b) {
			symbol[b] = rune(b)
			order = append(order, b)
		}
	}
	next := rune(0x100)
	for b := range 256 {
		if !printable(b) {
			symbol[b] = next
			next++
			order = append(order, b)
		}
	}
	return symbol, order
}

// byteLevel spells text in byte symbols.
func byteLevel(text string) string {
	symbol, _ := byteSymbols()
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(symbol[text[i]])
	}
	return b.String()
}

// word is a word of the corpus, cut into symbols.
type word struct {
	symbols []string
	count   int
}

// corpusWords cuts the corpus at spaces. Each word carries its leading space,
// spelled by the given function together with the word.
func corpusWords(spell func(string) string) []word {
	var words []word
	at := map[string]int{}
	for _, line := range strings.Split(corpus, "\n") {
		for i, w := range strings.Fields(line) {
			if i > 0 {
				w = " " + w
			}
			w = spell(w)
			if j, ok := at[w]; ok {
				words[j].count++
				continue
			}
			at[w] = len(words)
			words = append(words, word{strings.Split(w, ""), 1})
		}
	}
	return words
}

// learnMerges runs n steps of byte-pair encoding over words: the most frequent
// pair first, and among equals the smallest in byte order.
func learnMerges(words []word, n int) ([][2]string, error) {
	var merges [][2]string
	for len(merges) < n {
		counts := map[[2]string]int{}
		for _, w := range words {
			for i := 1; i < len(w.symbols); i++ {
				counts[[2]string{w.symbols[i-1], w.symbols[i]}] += w.count
			}
		}
		var best [2]string
		bestCount := 0
		for pair, c := range counts {
			if c > bestCount || c == bestCount && less(pair, best) {
				best, bestCount = pair, c
			}
		}
		if bestCount == 0 {
			return nil, fmt.Errorf("testmodel merges: corpus is used up: got %d, want %d", len(merges), n)
		}
		merges = append(merges, best)
		for i := range words {
			words[i].symbols = mergePair(words[i].symbols, best)
		}
	}
	return merges, nil
}

func less(a, b [2]string) bool {
	if a[0] != b[0] {
		return a[0] < b[0]
	}
	return a[1] < b[1]
}

// mergePair joins every occurrence of pair in symbols.
func mergePair(symbols []string, pair [2]string) []string {
	out := make([]string, 0, len(symbols))
	for i := 0; i < len(symbols); i++ {
		if i+1 < len(symbols) && symbols[i] == pair[0] && symbols[i+1] == pair[1] {
			out = append(out, pair[0]+pair[1])
			i++
			continue
		}
		out = append(out, symbols[i])
	}
	return out
}
