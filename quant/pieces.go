package quant

import "github.com/persona-gguf/persona-gguf/gguf"

// pieceBytes is how much of a tensor is read at once, unless a row is longer.
const pieceBytes = 1 << 20

// piece is a part of a tensor: bytes to be copied, or rows to be encoded.
type piece struct {
	tensor     *PlannedTensor
	off, size  int64 // in the source tensor
	out        int64 // where it goes in the output tensor
	outSize    int64
	importance []float32
}

// cut divides the tensors into pieces. Rows of different experts are in
// different pieces, because each expert has importances of its own.
func cut(tensors []PlannedTensor) []piece {
	var pieces []piece
	for i := range tensors {
		t := &tensors[i]
		if t.Type == t.SourceType {
			step := max(1, pieceBytes/t.SourceType.TypeSize()) * t.SourceType.TypeSize()
			for off := int64(0); off < t.SourceBytes; off += step {
				size := min(step, t.SourceBytes-off)
				pieces = append(pieces, piece{tensor: t, off: off, size: size, out: off, outSize: size})
			}
			continue
		}
		pieces = append(pieces, cutRows(t)...)
	}
	return pieces
}

func cutRows(t *PlannedTensor) []piece {
	rowIn := rowBytes(t.SourceType, t.NE[0])
	rowOut := rowBytes(t.Type, t.NE[0])
	rows, experts := t.NE[1], int64(1)
	if len(t.NE) > 2 {
		experts = t.NE[2]
	}
	if t.imatrix == nil { // one group of rows
		rows, experts = rows*experts, 1
	}
	step := max(1, pieceBytes/rowIn)
	var pieces []piece
	for e := range experts {
		var importance []float32
		if t.imatrix != nil {
			importance = t.imatrix[e*t.NE[0] : (e+1)*t.NE[0]]
		}
		for row := int64(0); row < rows; row += step {
			n := min(step, rows-row)
			pieces = append(pieces, piece{t, (e*rows + row) * rowIn, n * rowIn, (e*rows + row) * rowOut, n * rowOut, importance})
		}
	}
	return pieces
}

// rowBytes is RowSize for rows that were checked.
func rowBytes(t gguf.Type, n int64) int64 { return n / t.BlockSize() * t.TypeSize() }

// runOfPieces are worked on one after the other before those of other encoders: enough for a disk that has to seek.
const runOfPieces = 16

// interleave puts runs of pieces whose encoders compute long evenly between the others. In the order of the file an embedding
// in q6_K leaves the disk idle while it is computed, and then a whole model of q4_0 waits for the disk.
func interleave(pieces []piece) []piece {
	var slow, quick []piece
	for _, c := range pieces {
		if c.searches() {
			slow = append(slow, c)
		} else {
			quick = append(quick, c)
		}
	}
	order := make([]piece, 0, len(pieces))
	for i, j := 0, 0; len(order) < len(pieces); {
		if j == len(quick) || i < len(slow) && i*len(quick) <= j*len(slow) {
			n := min(runOfPieces, len(slow)-i)
			order, i = append(order, slow[i:i+n]...), i+n
		} else {
			n := min(runOfPieces, len(quick)-j)
			order, j = append(order, quick[j:j+n]...), j+n
		}
	}
	return order
}

// searches tells that the encoder of the piece tries many scales, which takes longer than a fast disk to read.
func (c *piece) searches() bool {
	if c.tensor.Type == c.tensor.SourceType {
		return false
	}
	switch c.tensor.Type {
	case gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0:
		return false
	case gguf.Q4_0, gguf.Q4_1, gguf.Q5_0, gguf.Q5_1:
		return c.importance != nil
	}
	return true
}

// ranges are what the pieces are made of.
func ranges(pieces []piece) []gguf.Range {
	list := make([]gguf.Range, len(pieces))
	for i, c := range pieces {
		list[i] = gguf.Range{Name: c.tensor.SourceName, Begin: c.off, End: c.off + c.size}
	}
	return list
}
