// Package llama is llama.cpp for Go: the whole exported API of
// github.com/go-skynet/go-llama.cpp (llama.go, options.go) on a current
// llama.cpp, and under it the typed calls it is made of: [Model], [ModelContext],
// [Sampler], [ChatTemplate], [Adapter], whole-file quantization and the row
// encoders of every ggml tensor type.
//
// # Lifetimes
//
// A Go value of this package owns one C object and gives it back in Close.
// The garbage collector never does: C memory is large, and when it goes is the
// caller's decision.
//
//   - Close may be called twice, and from any goroutine; the second call does
//     nothing. Every other call on a closed value returns [ErrClosed].
//   - What is made from a Model (ModelContext, Sampler, Adapter, ChatTemplate) keeps
//     the C model alive. Model.Close therefore may come first: the weights go
//     when the last of them is closed.
//   - A Model may be used by many goroutines at once. A ModelContext, a Sampler and
//     a ChatTemplate work for one at a time and make the others wait.
//   - A slice documented as a view points into C memory and is valid until the
//     next call that its documentation names. Everything else is a copy.
//   - Go memory is passed to C for the length of one call only, C never keeps a
//     Go pointer; callbacks travel as cgo handles (callback.go).
//
// # Errors
//
// llama.cpp tells why something failed only to its log. Each call into it
// therefore collects the lines logged by its own thread, and an [Error] carries
// them. Arguments that llama.cpp would answer with an assert, which ends the
// process, are checked here first; C++ exceptions become errors in guard.h, and so
// does an assert that is reached all the same on the calling thread (the object
// is then refused from there on: [ErrBroken]).
//
// Nothing is printed. [SetLogger] shows the log.
package llama

/*
#cgo CFLAGS: -I${SRCDIR}/../llamacpp/include -I${SRCDIR}/../llamacpp/ggml/include
#cgo CXXFLAGS: -std=c++17 -O2 -I${SRCDIR}/../llamacpp/include -I${SRCDIR}/../llamacpp/ggml/include -I${SRCDIR}/../llamacpp/common -I${SRCDIR}/../llamacpp/vendor -I${SRCDIR}/../llamacpp/src
#cgo LDFLAGS: -L${SRCDIR}/../build/lib -lllama-common -lllama -lggml -lggml-base -lm -lstdc++ -Wl,-rpath,$ORIGIN/../lib
#cgo !dist LDFLAGS: -Wl,-rpath,$ORIGIN/../build/lib -Wl,-rpath,${SRCDIR}/../build/lib
#include "shim.h"
*/
import "C"
