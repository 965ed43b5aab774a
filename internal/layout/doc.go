// Package layout holds no code. Its tests enforce the layout and the rules of
// this repository, out of the tables in rules_test.go: who may import whom,
// where cgo may be, and what no file may contain.
package layout
