// How a call of the C boundary runs: exceptions and asserts become error strings that carry the log lines of the call.
#pragma once

#include "shim.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace boundary {

// An assert inside llama.cpp, thrown by the abort callback.
struct assert_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The state of the one call that a thread is in. Log lines are kept per thread,
// so calls at the same time do not see each other's.
struct call_state {
    call_state * outer;
    std::string  log;
    uintptr_t    line_handle = 0; // quantize.go wants each line at once
};

inline thread_local call_state * current = nullptr;

inline char * copy_string(const std::string & s) {
    char * p = static_cast<char *>(malloc(s.size() + 1));
    if (p != nullptr) {
        memcpy(p, s.data(), s.size());
        p[s.size()] = 0;
    }
    return p;
}

// The message of last resort when even the error string cannot be allocated is
// the empty one of calloc; without that the process has no memory at all.
inline char * error_string(const char * what, const std::string & log) {
    try {
        return copy_string(std::string(what) + '\x1e' + log);
    } catch (...) {
        return static_cast<char *>(calloc(1, 1));
    }
}

template <typename F> nl_result guarded(F f, uintptr_t line_handle = 0) {
    nl_result  r = { 0, nullptr, nullptr, false };
    call_state st{ current, {}, line_handle };
    current = &st;
    try {
        f(r);
    } catch (const assert_error & e) {
        r.broken = true;
        r.err    = error_string(e.what(), st.log);
    } catch (const std::bad_alloc &) {
        r.err = error_string("out of memory", st.log);
    } catch (const std::exception & e) {
        r.err = error_string(e.what(), st.log);
    } catch (...) {
        r.err = error_string("unknown C++ exception", st.log);
    }
    current = st.outer;
    return r;
}

// fail is for calls that say no by their result: the reason is in the log.
[[noreturn]] inline void fail(const char * what) {
    throw std::runtime_error(what);
}

} // namespace boundary

using namespace boundary;
