package llama

/*
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unsafe"
)

// TensorType is the type of a tensor's elements, numbered as in ggml.h.
type TensorType uint32

// TensorTypeCount is one more than the largest type number.
const TensorTypeCount = int(C.GGML_TYPE_COUNT)

// known tells whether ggml has the type; numbers of removed types have no block size.
func (t TensorType) known() bool {
	return uint32(t) < uint32(TensorTypeCount) && t.traits().blck_size > 0
}

// traits needs t to be below TensorTypeCount.
func (t TensorType) traits() *C.struct_ggml_type_traits {
	return C.ggml_get_type_traits(C.enum_ggml_type(t))
}

// Valid tells whether ggml has the type.
func (t TensorType) Valid() bool { return t.known() }

// String returns ggml's name of the type, such as "q4_0".
func (t TensorType) String() string {
	if !t.known() {
		return "type " + strconv.FormatUint(uint64(t), 10)
	}
	return C.GoString(t.traits().type_name)
}

// BlockSize returns the elements of a block, 0 for an unknown type.
func (t TensorType) BlockSize() int64 {
	if !t.known() {
		return 0
	}
	return int64(t.traits().blck_size)
}

// TypeSize returns the bytes of a block, 0 for an unknown type.
func (t TensorType) TypeSize() int64 {
	if !t.known() {
		return 0
	}
	return int64(t.traits().type_size)
}

// IsQuantized tells whether blocks hold more than plain numbers.
func (t TensorType) IsQuantized() bool { return t.known() && bool(t.traits().is_quantized) }

// CanDecode tells whether DecodeRows takes the type.
func (t TensorType) CanDecode() bool {
	return t == C.GGML_TYPE_F32 || (t.known() && t.traits().to_float != nil)
}

// encodable are the types that ggml_quantize_chunk writes (ggml.c).
var encodable = func() map[TensorType]bool {
	m := map[TensorType]bool{}
	for _, t := range []TensorType{
		C.GGML_TYPE_F32, C.GGML_TYPE_F16, C.GGML_TYPE_BF16,
		C.GGML_TYPE_Q1_0, C.GGML_TYPE_Q2_0, C.GGML_TYPE_Q4_0, C.GGML_TYPE_Q4_1, C.GGML_TYPE_Q5_0, C.GGML_TYPE_Q5_1,
		C.GGML_TYPE_Q8_0, C.GGML_TYPE_MXFP4, C.GGML_TYPE_NVFP4,
		C.GGML_TYPE_Q2_K, C.GGML_TYPE_Q3_K, C.GGML_TYPE_Q4_K, C.GGML_TYPE_Q5_K, C.GGML_TYPE_Q6_K,
		C.GGML_TYPE_TQ1_0, C.GGML_TYPE_TQ2_0,
		C.GGML_TYPE_IQ2_XXS, C.GGML_TYPE_IQ2_XS, C.GGML_TYPE_IQ2_S, C.GGML_TYPE_IQ3_XXS, C.GGML_TYPE_IQ3_S,
		C.GGML_TYPE_IQ1_S, C.GGML_TYPE_IQ1_M, C.GGML_TYPE_IQ4_NL, C.GGML_TYPE_IQ4_XS,
	} {
		m[t] = true
	}
	return m
}()

// CanEncode tells whether EncodeRows writes the type.
func (t TensorType) CanEncode() bool { return encodable[t] }

// RowSize returns the bytes of a row of n elements.
func (t TensorType) RowSize(n int64) (int64, error) {
	if !t.known() {
		return 0, fmt.Errorf("row size: unknown tensor type %d", uint32(t))
	}
	block, size := t.BlockSize(), t.TypeSize()
	if n <= 0 || n%block != 0 {
		return 0, fmt.Errorf("row size: row of %d elements: want a multiple of the %s block of %d", n, t, block)
	}
	if n/block > math.MaxInt64/size {
		return 0, fmt.Errorf("row size: row of %d elements is too long", n)
	}
	return n / block * size, nil
}

// TypeName returns ggml's name of a type ("q4_0"), "" for a number it does not have.
func TypeName(t uint32) string {
	if !TensorType(t).known() {
		return ""
	}
	return TensorType(t).String()
}

// BlockSize returns the elements of a block of type t, 0 if there is no such type.
func BlockSize(t uint32) int64 { return TensorType(t).BlockSize() }

// TypeSize returns the bytes of a block of type t, 0 if there is no such type.
func TypeSize(t uint32) int64 { return TensorType(t).TypeSize() }

// RequiresImatrix tells whether ggml cannot encode type t without an importance matrix.
func RequiresImatrix(t uint32) bool {
	return TensorType(t).known() && bool(C.ggml_quantize_requires_imatrix(C.enum_ggml_type(t)))
}

// EncodeRows encodes whole rows of nPerRow elements from src (srcType) to dst
// (dstType), through f32, with the bytes of ggml's own encoders; the common types
// have faster ones ([Kernels]). len(dst) must be exactly the size of the encoded rows. imatrix is nil or
// holds nPerRow importances. Rows do not depend on each other, so one tensor may
// be encoded in pieces, from many goroutines at once. The memory a call needs
// besides is about 128 KiB, or one row as f32 if that is more.
func EncodeRows(dst []byte, dstType uint32, src []byte, srcType uint32, nPerRow int64, imatrix []float32) error {
	return encodeChecked(dst, dstType, src, srcType, nPerRow, imatrix, false)
}

// EncodeRowsThroughF16 is EncodeRows for rows that would first be stored as F16: the bytes are those of encoding to
// F16 and from there to dstType, in one pass. srcType is F32, F16 or BF16. It is an error if a value is not finite as
// F16; dst is of no use then.
func EncodeRowsThroughF16(dst []byte, dstType uint32, src []byte, srcType uint32, nPerRow int64, imatrix []float32) error {
	switch TensorType(srcType) {
	case C.GGML_TYPE_F32, C.GGML_TYPE_F16, C.GGML_TYPE_BF16:
		return encodeChecked(dst, dstType, src, srcType, nPerRow, imatrix, true)
	}
	return fmt.Errorf("encode rows through f16: got rows of %s, want f32, f16 or bf16", TensorType(srcType))
}

// encodeChecked checks the arguments and encodes.
func encodeChecked(dst []byte, dstType uint32, src []byte, srcType uint32, nPerRow int64, imatrix []float32, throughF16 bool) error {
	dt, st := TensorType(dstType), TensorType(srcType)
	if !dt.CanEncode() {
		return fmt.Errorf("encode rows: no encoder for tensor type %s", dt)
	}
	rows, err := countRows("encode rows", src, st, nPerRow)
	if err != nil {
		return err
	}
	size, err := dt.RowSize(nPerRow)
	if err != nil {
		return fmt.Errorf("encode rows: %w", err)
	}
	if rows > math.MaxInt64/size || int64(len(dst)) != rows*size {
		return fmt.Errorf("encode rows: output of %s: got %d bytes, want %d rows of %d", dt, len(dst), rows, size)
	}
	if imatrix != nil && int64(len(imatrix)) != nPerRow {
		return fmt.Errorf("encode rows: imatrix: got %d values, want %d", len(imatrix), nPerRow)
	}
	if imatrix == nil && RequiresImatrix(dstType) {
		return fmt.Errorf("encode rows: tensor type %s needs an imatrix", dt)
	}
	if rows == 0 {
		return nil
	}
	return encodeRows(dst, dt, src, st, rows, nPerRow, imatrix, throughF16)
}

// EncodeFloats is EncodeRows for numbers that are float32 in memory.
func EncodeFloats(dst []byte, dstType uint32, src []float32, nPerRow int64, imatrix []float32) error {
	return EncodeRows(dst, dstType, FloatBytes(src), uint32(C.GGML_TYPE_F32), nPerRow, imatrix)
}

// FloatBytes is the memory of v as bytes: a view, in the order of this machine.
func FloatBytes(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// encodeRows is encodeChecked without its checks.
func encodeRows(dst []byte, dt TensorType, src []byte, st TensorType, rows, nPerRow int64, imatrix []float32, throughF16 bool) error {
	through := C.int32_t(0)
	if throughF16 {
		through = 1
	}
	r := C.nl_encode_rows((*C.uint8_t)(&dst[0]), C.int32_t(dt), (*C.uint8_t)(&src[0]), C.int32_t(st),
		C.int64_t(rows), C.int64_t(nPerRow), (*C.float)(unsafe.SliceData(imatrix)), through)
	err := check(r, "encode rows", "to "+dt.String())
	if e, ok := err.(*Error); ok && e.err == ErrBroken {
		e.err = errAssert // there is no object that could be broken
		e.Reason = "the values cannot be encoded, are they finite? (" + e.Reason + ")"
	}
	return err
}

var errAssert = errors.New("assert reached in llama.cpp")

// DecodeRows turns whole rows of nPerRow elements into f32.
func DecodeRows(dst []float32, src []byte, srcType uint32, nPerRow int64) error {
	st := TensorType(srcType)
	rows, err := countRows("decode rows", src, st, nPerRow)
	if err != nil {
		return err
	}
	if rows > math.MaxInt64/nPerRow || int64(len(dst)) != rows*nPerRow {
		return fmt.Errorf("decode rows: output: got %d values, want %d rows of %d", len(dst), rows, nPerRow)
	}
	if rows == 0 {
		return nil
	}
	r := C.nl_decode_rows((*C.float)(&dst[0]), (*C.uint8_t)(&src[0]), C.int32_t(st), C.int64_t(rows), C.int64_t(nPerRow))
	return check(r, "decode rows", "of "+st.String())
}

// countRows returns how many rows src holds.
func countRows(op string, src []byte, t TensorType, nPerRow int64) (int64, error) {
	if !t.CanDecode() {
		return 0, fmt.Errorf("%s: no decoder for tensor type %s", op, t)
	}
	size, err := t.RowSize(nPerRow)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	if int64(len(src))%size != 0 {
		return 0, fmt.Errorf("%s: input of %s: got %d bytes, want a multiple of the row of %d", op, t, len(src), size)
	}
	return int64(len(src)) / size, nil
}

// ValidateRows checks encoded data for NaN and infinite values or scales, by
// ggml's own check (the one behind CheckTensors and llama-quantize). len(p) must
// be a multiple of the type size.
func ValidateRows(p []byte, typ uint32) error {
	t := TensorType(typ)
	if !t.known() {
		return fmt.Errorf("validate rows: unknown tensor type %d", typ)
	}
	if int64(len(p))%t.TypeSize() != 0 {
		return fmt.Errorf("validate rows: data of %s: got %d bytes, want a multiple of %d", t, len(p), t.TypeSize())
	}
	if len(p) == 0 {
		return nil
	}
	return check(C.nl_validate_rows(C.int32_t(t), (*C.uint8_t)(&p[0]), C.size_t(len(p))), "validate rows", "of "+t.String())
}
