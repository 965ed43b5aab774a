package gguf

import (
	"encoding/binary"
	"fmt"
)

// ValueType is the type of a metadata value, numbered as enum gguf_type in
// llama.cpp's ggml/include/gguf.h.
type ValueType uint32

// The types of metadata values.
const (
	TypeUint8   ValueType = 0
	TypeInt8    ValueType = 1
	TypeUint16  ValueType = 2
	TypeInt16   ValueType = 3
	TypeUint32  ValueType = 4
	TypeInt32   ValueType = 5
	TypeFloat32 ValueType = 6
	TypeBool    ValueType = 7
	TypeString  ValueType = 8
	TypeArray   ValueType = 9
	TypeUint64  ValueType = 10
	TypeInt64   ValueType = 11
	TypeFloat64 ValueType = 12

	valueTypeCount = 13 // GGUF_TYPE_COUNT
)

// valueInfo is one row of the table of value types: ggml's name, the bytes of
// one element (at least, for a string), and the readers of one value and of n of them.
type valueInfo struct {
	name   string
	size   int64
	scalar func(c *cursor) (any, error)
	array  func(c *cursor, n int64) (any, error)
}

var valueTable [valueTypeCount]valueInfo

func init() { // not a literal: the readers refer to the table
	valueTable = [valueTypeCount]valueInfo{
		TypeUint8:   {"u8", 1, readScalar[uint8], readArray[uint8]},
		TypeInt8:    {"i8", 1, readScalar[int8], readArray[int8]},
		TypeUint16:  {"u16", 2, readScalar[uint16], readArray[uint16]},
		TypeInt16:   {"i16", 2, readScalar[int16], readArray[int16]},
		TypeUint32:  {"u32", 4, readScalar[uint32], readArray[uint32]},
		TypeInt32:   {"i32", 4, readScalar[int32], readArray[int32]},
		TypeFloat32: {"f32", 4, readScalar[float32], readArray[float32]},
		TypeBool:    {"bool", 1, readBool, readBools},
		TypeString:  {"str", 8, readString, readStrings},
		TypeArray:   {name: "arr"},
		TypeUint64:  {"u64", 8, readScalar[uint64], readArray[uint64]},
		TypeInt64:   {"i64", 8, readScalar[int64], readArray[int64]},
		TypeFloat64: {"f64", 8, readScalar[float64], readArray[float64]},
	}
}

// String gives ggml's short name of the type: "u32", "str", "arr", …
func (t ValueType) String() string {
	if t >= valueTypeCount {
		return fmt.Sprintf("value type %d", uint32(t))
	}
	return valueTable[t].name
}

// TypeOf gives the type under which v is stored and, if that is [TypeArray],
// the type and the number of its elements; n is 1 for a single value. ok is
// false if v is of none of the Go types listed at [KV].
func TypeOf(v any) (t, elem ValueType, n int, ok bool) {
	if t, ok := scalarType(v); ok {
		return t, t, 1, true
	}
	if elem, n, ok := arrayType(v); ok {
		return TypeArray, elem, n, true
	}
	return 0, 0, 0, false
}

func scalarType(v any) (ValueType, bool) {
	switch v.(type) {
	case uint8:
		return TypeUint8, true
	case int8:
		return TypeInt8, true
	case uint16:
		return TypeUint16, true
	case int16:
		return TypeInt16, true
	case uint32:
		return TypeUint32, true
	case int32:
		return TypeInt32, true
	case float32:
		return TypeFloat32, true
	case bool:
		return TypeBool, true
	case string:
		return TypeString, true
	case uint64:
		return TypeUint64, true
	case int64:
		return TypeInt64, true
	case float64:
		return TypeFloat64, true
	}
	return 0, false
}

func arrayType(v any) (elem ValueType, n int, ok bool) {
	switch v := v.(type) {
	case []uint8:
		return TypeUint8, len(v), true
	case []int8:
		return TypeInt8, len(v), true
	case []uint16:
		return TypeUint16, len(v), true
	case []int16:
		return TypeInt16, len(v), true
	case []uint32:
		return TypeUint32, len(v), true
	case []int32:
		return TypeInt32, len(v), true
	case []float32:
		return TypeFloat32, len(v), true
	case []bool:
		return TypeBool, len(v), true
	case []string:
		return TypeString, len(v), true
	case []uint64:
		return TypeUint64, len(v), true
	case []int64:
		return TypeInt64, len(v), true
	case []float64:
		return TypeFloat64, len(v), true
	}
	return 0, 0, false
}

// checkValue checks that v has a type and a size that the format can hold.
func checkValue(v any) error {
	_, _, n, ok := TypeOf(v)
	if !ok {
		return fmt.Errorf("value: got Go type %T, want a GGUF value type or a slice of one", v)
	}
	if n > MaxArrayLen {
		return fmt.Errorf("array: got %d elements, want at most %d", n, MaxArrayLen)
	}
	switch v := v.(type) {
	case string:
		return checkStringLen(int64(len(v)))
	case []string:
		for i, s := range v {
			if err := checkStringLen(int64(len(s))); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
	}
	return nil
}

func checkStringLen(n int64) error {
	if n > MaxStringLen {
		return fmt.Errorf("string: got %d bytes, want at most %d", n, MaxStringLen)
	}
	return nil
}

// appendKV appends a checked pair as the file stores it.
func appendKV(b []byte, kv KV) ([]byte, error) {
	b = appendString(b, kv.Key)
	t, elem, n, _ := TypeOf(kv.Value)
	b = binary.LittleEndian.AppendUint32(b, uint32(t))
	if t == TypeArray {
		b = binary.LittleEndian.AppendUint32(b, uint32(elem))
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	switch v := kv.Value.(type) {
	case string:
		return appendString(b, v), nil
	case []string:
		for _, s := range v {
			b = appendString(b, s)
		}
		return b, nil
	}
	return binary.Append(b, binary.LittleEndian, kv.Value)
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}
