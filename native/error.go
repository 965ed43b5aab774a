package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Sentinel errors; test for them with errors.Is.
var (
	// ErrClosed is returned by every call on a value that was closed (or is nil).
	ErrClosed = errors.New("closed")
	// ErrBroken is returned by every call on a value inside which llama.cpp
	// reached an assert. Only Close is of use then; its C memory is not freed.
	ErrBroken = errors.New("unusable after an internal error of llama.cpp")
	// ErrNoKVSlot says that the tokens do not fit into the context's memory.
	ErrNoKVSlot = errors.New("no room in the context's memory")
	// ErrAborted says that a call was ended by its callback.
	ErrAborted = errors.New("aborted")
)

// Error is a failure reported by llama.cpp.
type Error struct {
	Op     string   // what was tried, such as "load model"
	Object string   // on what, such as the file's path; may be empty
	Reason string   // C++ exception text, or the log line that tells the reason
	Log    []string // the last log lines of the call, oldest first, without newline
	err    error    // sentinel, or nil
}

// Error returns "op object: reason".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteString(" " + e.Object)
	}
	b.WriteString(": ")
	b.WriteString(e.Reason)
	return b.String()
}

// Unwrap returns the sentinel that the failure stands for, if any.
func (e *Error) Unwrap() error { return e.err }

const logSeparator = "\x1e"

// check turns the result of a call into an error and frees its C string.
func check(r C.nl_result, op, object string) error {
	if r.err == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(r.err))
	e := parseError(C.GoString(r.err))
	e.Op, e.Object = op, object
	if r.broken {
		e.err = ErrBroken
	}
	return e
}

// parseError splits what guard.h's error_string has joined. Without an
// exception text the reason is what the log calls an error, else its last line.
func parseError(s string) *Error {
	what, log, _ := strings.Cut(s, logSeparator)
	e := &Error{Reason: strings.TrimSpace(what)}
	var failures []string
	for line := range strings.Lines(log) {
		if len(line) < 2 {
			continue
		}
		level, text := int(line[0]-'0'), strings.TrimSpace(line[1:])
		if text == "" {
			continue
		}
		e.Log = append(e.Log, text)
		if reason := functionName.ReplaceAllString(text, ""); level == LogError && !emptyWords[reason] {
			failures = append(failures, reason)
		}
	}
	if e.Reason != "" {
		return e
	}
	switch {
	case len(failures) > 0:
		e.Reason = strings.Join(failures[max(0, len(failures)-maxReasons):], "; ")
	case len(e.Log) > 0:
		e.Reason = e.Log[len(e.Log)-1]
	default:
		e.Reason = "llama.cpp gave no reason"
	}
	return e
}

// maxReasons bounds the log lines that go into the text of an error.
const maxReasons = 4

// functionName is what llama.cpp's log lines begin with.
var functionName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_:~]*: `)

// emptyWords are error lines that follow the one with the reason.
var emptyWords = map[string]bool{"failed to load model": true, "failed to decode, ret = -1": true}

// Levels of a log line, as in ggml.h.
const (
	LogNone  = int(C.GGML_LOG_LEVEL_NONE)
	LogDebug = int(C.GGML_LOG_LEVEL_DEBUG)
	LogInfo  = int(C.GGML_LOG_LEVEL_INFO)
	LogWarn  = int(C.GGML_LOG_LEVEL_WARN)
	LogError = int(C.GGML_LOG_LEVEL_ERROR)
	LogCont  = int(C.GGML_LOG_LEVEL_CONT) // continues the line before
)

var logger atomic.Pointer[func(level int, text string)]

var setLoggerMu sync.Mutex

// SetLogger has every log line of llama.cpp passed to f, as it comes, from any
// thread and possibly from several at once; text ends with a newline unless the
// line goes on. f must not call into this package. nil, the default, is silence.
func SetLogger(f func(level int, text string)) {
	setLoggerMu.Lock()
	defer setLoggerMu.Unlock()
	if f == nil {
		C.nl_forward_log(false)
		logger.Store(nil)
		return
	}
	logger.Store(&f)
	C.nl_forward_log(true)
}
