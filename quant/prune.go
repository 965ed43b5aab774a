package quant

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

var blockPattern = regexp.MustCompile(`blk\.([0-9]+)\.`)

// pruner renumbers blocks when some are left out (remap_layer in src/llama-quant.cpp).
// Names must come in the order of their blocks.
type pruner struct {
	out    []int       // blocks to leave out, sorted
	number map[int]int // new number of every block seen; -1: left out
	next   int         // number of the next block that stays
}

func newPruner(layers []int) *pruner {
	out := slices.Clone(layers)
	slices.Sort(out)
	return &pruner{out: slices.Compact(out), number: map[int]int{}}
}

// rename gives the name in the output, "" for a tensor that is left out.
func (p *pruner) rename(name string) (string, error) {
	at := blockPattern.FindStringSubmatchIndex(name)
	if len(p.out) == 0 || at == nil {
		return name, nil
	}
	block, err := strconv.Atoi(name[at[2]:at[3]])
	if err != nil {
		return "", fmt.Errorf("tensor %s: block: %w", name, err)
	}
	if _, seen := p.number[block]; !seen {
		switch {
		case slices.Contains(p.out, block):
			p.number[block] = -1
		case block < p.out[0]:
			p.number[block] = block
			p.next = block + 1
		default:
			p.number[block] = p.next
			p.next++
		}
	}
	n := p.number[block]
	if n < 0 {
		return "", nil
	}
	return name[:at[2]] + strconv.Itoa(n) + name[at[3]:], nil
}

// planPrune checks what pruning has left.
func (p *Plan) planPrune(prune *pruner) error {
	if len(p.o.PruneLayers) == 0 {
		return nil
	}
	p.blocksLeft = prune.next
	if prune.next == 0 {
		return errors.New("options: layers to prune: no block is left")
	}
	return nil
}
