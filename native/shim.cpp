// The C++ half of the C boundary; see shim.h. Every entry runs inside
// guarded(): exceptions and asserts become error strings that carry the log
// lines of the call.
#include "shim.h"

#include "build-info.h"
#include "chat.h"
#include "common.h"
#include "json.h"
#include "llama-grammar.h"
#include "log.h"

#include "candidates.h"
#include "kernels/half.h"
#include "kernels/kernels.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// callback.go
extern "C" {
void    nlGoLog(int32_t level, char * text);
int32_t nlGoLoadProgress(float progress, uintptr_t handle);
int32_t nlGoAbort(uintptr_t handle);
int32_t nlGoQuantizeLog(uintptr_t handle, int32_t level, char * text);
}

namespace {

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

thread_local call_state * current = nullptr;

std::atomic<bool> forward_log{ false };

constexpr size_t max_log = 16 * 1024;

void keep_line(std::string & log, int level, const char * text) {
    if (level == GGML_LOG_LEVEL_CONT && !log.empty() && log.back() == '\n') {
        log.pop_back();
    } else {
        log += char('0' + level);
    }
    log += text;
    if (log.back() != '\n') {
        log += '\n';
    }
    if (log.size() > max_log) { // keep the end: the reason of a failure comes last
        const size_t cut = log.find('\n', log.size() - max_log / 2);
        log.erase(0, cut == std::string::npos ? log.size() - max_log / 2 : cut + 1);
    }
}

void on_log(ggml_log_level level, const char * text, void *) {
    if (current != nullptr) {
        try {
            keep_line(current->log, level, text);
        } catch (...) { // no memory for a log line: the call goes on without it
        }
        // Only the line that llama-quant.cpp logs before each tensor may cancel:
        // the exception passes that file's code alone, and is caught there.
        if (current->line_handle != 0 && text[0] == '[' &&
            nlGoQuantizeLog(current->line_handle, level, const_cast<char *>(text)) == 0) {
            throw std::runtime_error("cancelled");
        }
    }
    if (forward_log.load(std::memory_order_relaxed)) {
        nlGoLog(level, const_cast<char *>(text));
    }
}

// ggml_abort() calls this and then abort(). On a thread that is inside
// guarded() the stack is unwound instead; elsewhere (a worker thread) the
// process ends, with the message on stderr as ggml does it.
void on_abort(const char * message) {
    if (current != nullptr && std::uncaught_exceptions() == 0) {
        throw assert_error(message);
    }
    fprintf(stderr, "%s\n", message);
}

char * copy_string(const std::string & s) {
    char * p = static_cast<char *>(malloc(s.size() + 1));
    if (p != nullptr) {
        memcpy(p, s.data(), s.size());
        p[s.size()] = 0;
    }
    return p;
}

// The message of last resort when even the error string cannot be allocated is
// the empty one of calloc; without that the process has no memory at all.
char * error_string(const char * what, const std::string & log) {
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
[[noreturn]] void fail(const char * what) {
    throw std::runtime_error(what);
}

} // namespace

//
// backend.go
//

char * nl_library_path(void) {
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(&llama_backend_init), &info) == 0 || info.dli_fname == nullptr) {
        return nullptr;
    }
    char * real = realpath(info.dli_fname, nullptr);
    return real != nullptr ? real : strdup(info.dli_fname);
}

void nl_hooks(void) {
    llama_log_set(on_log, nullptr); // sets ggml's too
    common_log_set_verbosity_thold(-1);
    ggml_set_abort_callback(on_abort);
}

nl_result nl_init(void) {
    return guarded([](nl_result & r) {
        std::unique_ptr<char, decltype(&free)> lib(nl_library_path(), &free);
        if (lib) {
            std::string dir(lib.get());
            const size_t slash = dir.rfind('/');
            if (slash != std::string::npos) {
                dir.resize(slash);
                ggml_backend_load_all_from_path(dir.c_str());
            }
        }
        if (ggml_backend_reg_count() == 0) {
            fail("no backend found beside libllama");
        }
        llama_backend_init();
        r.n = (int64_t) ggml_backend_reg_count();
    });
}

void nl_forward_log(bool on) {
    forward_log.store(on);
}

const char * nl_build_commit(void) {
    return llama_commit();
}

int32_t nl_build_number(void) {
    return llama_build_number();
}

int32_t nl_math_cpus(void) {
    return common_cpu_get_num_math();
}

nl_result nl_cpu_features(void) {
    return guarded([](nl_result & r) {
        auto * dev = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        if (dev == nullptr) {
            fail("no CPU backend");
        }
        auto get = reinterpret_cast<ggml_backend_get_features_t>(
            ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev), "ggml_backend_get_features"));
        std::string out;
        if (get != nullptr) {
            for (auto * f = get(ggml_backend_dev_backend_reg(dev)); f->name != nullptr; f++) {
                out += std::string(f->name) + '=' + f->value + '\n';
            }
        }
        r.p = copy_string(out);
    });
}

char * nl_backend_file(ggml_backend_reg_t reg) {
    Dl_info info;
    // The name is a constant inside the backend's own library.
    if (dladdr(ggml_backend_reg_name(reg), &info) == 0 || info.dli_fname == nullptr) {
        return nullptr;
    }
    return strdup(info.dli_fname);
}

nl_result nl_numa_init(int32_t strategy) {
    return guarded([&](nl_result &) { llama_numa_init((ggml_numa_strategy) strategy); });
}

//
// model.go
//

nl_result nl_model_load(const char * path, llama_model_params p, uintptr_t progress, const float * split, int32_t n_split) {
    return guarded([&](nl_result & r) {
        std::vector<float> ts(llama_max_devices(), 0.0f);
        if (n_split > 0) {
            std::copy(split, split + std::min<size_t>(n_split, ts.size()), ts.begin());
            p.tensor_split = ts.data();
        }
        p.progress_callback = [](float x, void * h) { return nlGoLoadProgress(x, (uintptr_t) h) != 0; };
        p.progress_callback_user_data = (void *) progress;
        if (progress == 0) {
            p.progress_callback = [](float, void *) { return true; };
        }
        r.p = llama_model_load_from_file(path, p);
        if (r.p == nullptr) {
            fail("");
        }
    });
}

nl_result nl_model_free(llama_model * m) {
    return guarded([&](nl_result &) { llama_model_free(m); });
}

nl_result nl_tokenize(const llama_vocab * v, const char * text, int32_t len, int32_t * out, int32_t cap, bool special, bool parse) {
    return guarded([&](nl_result & r) { r.n = llama_tokenize(v, text, len, out, cap, special, parse); });
}

nl_result nl_piece(const llama_vocab * v, int32_t token, char * buf, int32_t cap, bool special) {
    return guarded([&](nl_result & r) { r.n = llama_token_to_piece(v, token, buf, cap, 0, special); });
}

nl_result nl_detokenize(const llama_vocab * v, const int32_t * tokens, int32_t n, char * buf, int32_t cap, bool remove, bool unparse) {
    return guarded([&](nl_result & r) { r.n = llama_detokenize(v, tokens, n, buf, cap, remove, unparse); });
}

nl_result nl_meta_val(const llama_model * m, const char * key, char * buf, size_t cap) {
    return guarded([&](nl_result & r) { r.n = llama_model_meta_val_str(m, key, buf, cap); });
}

//
// adapter.go
//

nl_result nl_adapter_load(llama_model * m, const char * path) {
    return guarded([&](nl_result & r) {
        r.p = llama_adapter_lora_init(m, path);
        if (r.p == nullptr) {
            fail("");
        }
    });
}

nl_result nl_adapter_free(llama_adapter_lora * a) {
    return guarded([&](nl_result &) { llama_adapter_lora_free(a); });
}

//
// context.go
//

static bool context_abort(void * data) {
    auto * c = static_cast<nl_context *>(data);
    if (__atomic_load_n(&c->abort, __ATOMIC_RELAXED) != 0) {
        return true;
    }
    if (c->abort_fn != 0) { // called for every node of the graph: ask Go once a millisecond
        const int64_t now = ggml_time_us();
        if (now >= c->abort_next_us) {
            c->abort_next_us = now + 1000;
            return nlGoAbort(c->abort_fn) != 0;
        }
    }
    return false;
}

static void batch_free(nl_context * c) {
    if (c->cap > 0) {
        llama_batch_free(c->batch);
        c->cap = 0;
    }
}

nl_result nl_context_new(llama_model * m, llama_context_params p) {
    return guarded([&](nl_result & r) {
        std::unique_ptr<nl_context> c(new nl_context());
        p.abort_callback      = context_abort;
        p.abort_callback_data = c.get();
        c->ctx = llama_init_from_model(m, p);
        if (c->ctx == nullptr) {
            fail("");
        }
        c->cap   = (int32_t) llama_n_batch(c->ctx);
        c->seqs  = (int32_t) llama_n_seq_max(c->ctx);
        c->batch = llama_batch_init(c->cap, 0, c->seqs);
        if (c->batch.token == nullptr || c->batch.pos == nullptr || c->batch.seq_id == nullptr || c->batch.logits == nullptr) {
            llama_free(c->ctx);
            throw std::bad_alloc();
        }
        r.p = c.release();
    });
}

nl_result nl_context_free(nl_context * c) {
    return guarded([&](nl_result &) {
        batch_free(c);
        llama_free(c->ctx);
        delete c;
    });
}

void nl_context_abort(nl_context * c, bool on) {
    __atomic_store_n(&c->abort, on ? 1 : 0, __ATOMIC_RELAXED);
}

nl_result nl_decode(nl_context * c, int32_t n) {
    return guarded([&](nl_result & r) {
        llama_batch b = c->batch;
        b.n_tokens    = n;
        c->abort_next_us = 0;
        r.n = llama_decode(c->ctx, b);
        if (r.n < 0) {
            fail("");
        }
    });
}

nl_result nl_decode_tokens(nl_context * c, const int32_t * tokens, int32_t n, int32_t seq, int32_t pos, int32_t logits) {
    for (int32_t i = 0; i < n; i++) {
        c->batch.token[i]     = tokens[i];
        c->batch.pos[i]       = pos + i;
        c->batch.n_seq_id[i]  = 1;
        c->batch.seq_id[i][0] = seq;
        c->batch.logits[i]    = logits == 2 || (logits == 1 && i == n - 1);
    }
    return nl_decode(c, n);
}

nl_result nl_synchronize(nl_context * c) {
    return guarded([&](nl_result &) { llama_synchronize(c->ctx); });
}

nl_result nl_logits(nl_context * c, int32_t i) {
    return guarded([&](nl_result & r) {
        r.p = llama_get_logits_ith(c->ctx, i);
        if (r.p == nullptr) {
            fail("");
        }
    });
}

nl_result nl_embeddings(nl_context * c, int32_t i) {
    return guarded([&](nl_result & r) {
        r.p = llama_get_embeddings_ith(c->ctx, i);
        if (r.p == nullptr) {
            fail("");
        }
    });
}

nl_result nl_embeddings_seq(nl_context * c, int32_t seq) {
    return guarded([&](nl_result & r) {
        llama_synchronize(c->ctx);
        r.p = llama_get_embeddings_seq(c->ctx, seq);
        if (r.p == nullptr) {
            fail("the last batch has no pooled embedding for the sequence");
        }
    });
}

nl_result nl_memory_clear(nl_context * c, bool data) {
    return guarded([&](nl_result &) { llama_memory_clear(llama_get_memory(c->ctx), data); });
}

nl_result nl_seq_rm(nl_context * c, int32_t seq, int32_t p0, int32_t p1) {
    return guarded([&](nl_result & r) { r.n = llama_memory_seq_rm(llama_get_memory(c->ctx), seq, p0, p1); });
}

nl_result nl_seq_cp(nl_context * c, int32_t src, int32_t dst, int32_t p0, int32_t p1) {
    return guarded([&](nl_result &) { llama_memory_seq_cp(llama_get_memory(c->ctx), src, dst, p0, p1); });
}

nl_result nl_seq_keep(nl_context * c, int32_t seq) {
    return guarded([&](nl_result &) { llama_memory_seq_keep(llama_get_memory(c->ctx), seq); });
}

nl_result nl_seq_add(nl_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t delta) {
    return guarded([&](nl_result &) { llama_memory_seq_add(llama_get_memory(c->ctx), seq, p0, p1, delta); });
}

nl_result nl_seq_div(nl_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t d) {
    return guarded([&](nl_result &) { llama_memory_seq_div(llama_get_memory(c->ctx), seq, p0, p1, d); });
}

nl_result nl_state_size(nl_context * c) {
    return guarded([&](nl_result & r) { r.n = (int64_t) llama_state_get_size(c->ctx); });
}

nl_result nl_state_get(nl_context * c, uint8_t * dst, size_t n) {
    return guarded([&](nl_result & r) {
        r.n = (int64_t) llama_state_get_data(c->ctx, dst, n);
        if (r.n == 0) {
            fail("");
        }
    });
}

nl_result nl_state_set(nl_context * c, const uint8_t * src, size_t n) {
    return guarded([&](nl_result & r) {
        r.n = (int64_t) llama_state_set_data(c->ctx, src, n);
        if (r.n == 0) {
            fail("");
        }
    });
}

nl_result nl_state_save(nl_context * c, const char * path, const int32_t * tokens, size_t n) {
    return guarded([&](nl_result &) {
        if (!llama_state_save_file(c->ctx, path, tokens, n)) {
            fail("");
        }
    });
}

nl_result nl_state_load(nl_context * c, const char * path, int32_t * tokens, size_t cap) {
    return guarded([&](nl_result & r) {
        size_t n = 0;
        if (!llama_state_load_file(c->ctx, path, tokens, cap, &n)) {
            fail("");
        }
        r.n = (int64_t) n;
    });
}

nl_result nl_seq_state_size(nl_context * c, int32_t seq) {
    return guarded([&](nl_result & r) { r.n = (int64_t) llama_state_seq_get_size(c->ctx, seq); });
}

nl_result nl_seq_state_get(nl_context * c, uint8_t * dst, size_t n, int32_t seq) {
    return guarded([&](nl_result & r) {
        r.n = (int64_t) llama_state_seq_get_data(c->ctx, dst, n, seq);
        if (r.n == 0) {
            fail("");
        }
    });
}

nl_result nl_seq_state_set(nl_context * c, const uint8_t * src, size_t n, int32_t seq) {
    return guarded([&](nl_result & r) {
        r.n = (int64_t) llama_state_seq_set_data(c->ctx, src, n, seq);
        if (r.n == 0) {
            fail("");
        }
    });
}

nl_result nl_set_adapters(nl_context * c, llama_adapter_lora ** a, float * scales, size_t n) {
    return guarded([&](nl_result &) {
        if (llama_set_adapters_lora(c->ctx, a, n, scales) != 0) {
            fail("");
        }
    });
}

//
// sampler.go
//

namespace {

// Penalties that leave the newline token's logit as it was: the option
// penalize_nl of older llama.cpp, which newer ones dropped.
struct keep_newline {
    llama_sampler * inner;
    llama_token     nl;
};

llama_token_data * find_token(llama_token_data_array * cur, llama_token id) {
    if (id >= 0 && (size_t) id < cur->size && cur->data[id].id == id) {
        return cur->data + id;
    }
    for (size_t i = 0; i < cur->size; i++) {
        if (cur->data[i].id == id) {
            return cur->data + i;
        }
    }
    return nullptr;
}

llama_sampler * keep_newline_init(llama_sampler * inner, llama_token nl);

const char * keep_newline_name(const llama_sampler *) {
    return "penalties-keep-newline";
}

void keep_newline_accept(llama_sampler * s, llama_token t) {
    llama_sampler_accept(static_cast<keep_newline *>(s->ctx)->inner, t);
}

void keep_newline_apply(llama_sampler * s, llama_token_data_array * cur) {
    auto * k     = static_cast<keep_newline *>(s->ctx);
    auto * d     = find_token(cur, k->nl);
    const float logit = d != nullptr ? d->logit : 0.0f;
    llama_sampler_apply(k->inner, cur);
    d = find_token(cur, k->nl);
    if (d != nullptr) {
        d->logit = logit;
    }
}

void keep_newline_reset(llama_sampler * s) {
    llama_sampler_reset(static_cast<keep_newline *>(s->ctx)->inner);
}

llama_sampler * keep_newline_clone(const llama_sampler * s) {
    auto * k = static_cast<const keep_newline *>(s->ctx);
    return keep_newline_init(llama_sampler_clone(k->inner), k->nl);
}

void keep_newline_free(llama_sampler * s) {
    auto * k = static_cast<keep_newline *>(s->ctx);
    llama_sampler_free(k->inner);
    delete k;
}

llama_sampler * keep_newline_init(llama_sampler * inner, llama_token nl) {
    static llama_sampler_i iface = []() {
        llama_sampler_i i = {};
        i.name   = keep_newline_name;
        i.accept = keep_newline_accept;
        i.apply  = keep_newline_apply;
        i.reset  = keep_newline_reset;
        i.clone  = keep_newline_clone;
        i.free   = keep_newline_free;
        return i;
    }();
    return llama_sampler_init(&iface, new keep_newline{ inner, nl });
}

void chain_logit_bias(llama_sampler * chain, const llama_vocab * v, const nl_sampler_params & p,
                      const int32_t * tokens, const float * bias, int32_t n, std::vector<int32_t> & changed) {
    const int32_t n_vocab = llama_vocab_n_tokens(v);
    std::vector<llama_logit_bias> all;
    for (int32_t i = 0; i < n; i++) {
        all.push_back({ tokens[i], bias[i] });
    }
    if (p.ignore_eog) {
        for (llama_token t = 0; t < n_vocab; t++) {
            if (llama_vocab_is_eog(v, t)) {
                all.push_back({ t, -INFINITY });
            }
        }
    }
    int32_t             n_suppress = 0;
    const llama_token * suppress   = llama_vocab_get_suppress_tokens(v, &n_suppress);
    for (int32_t i = 0; i < n_suppress; i++) {
        all.push_back({ suppress[i], -INFINITY });
    }
    for (const auto & b : all) {
        changed.push_back(b.token);
    }
    if (!all.empty()) {
        llama_sampler_chain_add(chain, llama_sampler_init_logit_bias(n_vocab, (int32_t) all.size(), all.data()));
    }
}

// The order of common/common.h (common_params_sampling::samplers).
void chain_default(llama_sampler * chain, const llama_vocab * v, const nl_sampler_params & p,
                   const std::vector<const char *> & breakers) {
    auto * pen = llama_sampler_init_penalties(llama_vocab_n_tokens(v), p.repeat_last_n, p.repeat, p.frequency, p.presence);
    const llama_token nl = llama_vocab_nl(v);
    if (!p.penalize_nl && nl != LLAMA_TOKEN_NULL) {
        pen = keep_newline_init(pen, nl);
    }
    llama_sampler_chain_add(chain, pen);
    if (p.mirostat != 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_temp(p.temp));
        if (p.mirostat == 1) {
            llama_sampler_chain_add(chain, llama_sampler_init_mirostat(llama_vocab_n_tokens(v), p.seed, p.mirostat_tau, p.mirostat_eta, 100));
        } else {
            llama_sampler_chain_add(chain, llama_sampler_init_mirostat_v2(p.seed, p.mirostat_tau, p.mirostat_eta));
        }
        return;
    }
    if (p.temp <= 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    const size_t keep = (size_t) std::max(p.min_keep, 0);
    llama_sampler_chain_add(chain, llama_sampler_init_dry(v, p.dry_multiplier, p.dry_base, p.dry_allowed_length, p.dry_last_n,
                                                          const_cast<const char **>(breakers.data()), breakers.size()));
    llama_sampler_chain_add(chain, llama_sampler_init_top_n_sigma(p.top_n_sigma));
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(p.top_k));
    llama_sampler_chain_add(chain, llama_sampler_init_typical(p.typical_p, keep));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(p.top_p, keep));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p(p.min_p, keep));
    llama_sampler_chain_add(chain, llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, keep, p.seed));
    llama_sampler_chain_add(chain, llama_sampler_init_temp_ext(p.temp, p.dynatemp_range, p.dynatemp_exponent));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(p.seed));
}

// How many of the largest logits a chain looks at; 0 if it may look at all (candidates.h).
int32_t chain_looks_at(const nl_sampler_params & p) {
    if (p.mirostat != 0) {
        return 0;
    }
    if (p.temp <= 0.0f) {
        return 1;
    }
    const bool all = p.dry_multiplier != 0.0f || p.top_n_sigma > 0.0f;
    return all || p.top_k > candidates::max_k ? 0 : std::max(p.top_k, 0);
}

} // namespace

// llama_grammar_parser::parse prints its complaint to stderr and keeps the reason
// to itself; this is its loop without the catch. What it lets pass, parse does too.
static void check_grammar(const llama_vocab * v, const char * text, const char * root) {
    llama_grammar_parser parser(v);
    const char * pos = text;
    while (*pos != 0 && strchr(" \t\r\n#", *pos) != nullptr) {
        pos += *pos == '#' ? strcspn(pos, "\r\n") : 1;
    }
    while (*pos != 0) {
        pos = parser.parse_rule(pos);
    }
    for (const auto & symbol : parser.symbol_ids) {
        if (symbol.second >= parser.rules.size() || parser.rules[symbol.second].empty()) {
            throw std::runtime_error("undefined rule '" + symbol.first + "'");
        }
    }
    if (parser.symbol_ids.count(root) == 0) {
        throw std::runtime_error("no rule '" + std::string(root) + "' to begin with");
    }
}

struct nl_sampler {
    llama_sampler *               chain   = nullptr;
    llama_sampler *               grammar = nullptr;
    std::vector<llama_token_data> cur;
    candidates::state             few; // the tokens that the chain looks at

    ~nl_sampler() {
        llama_sampler_free(grammar);
        llama_sampler_free(chain);
    }
};

nl_result nl_sampler_new(const llama_vocab * v, nl_sampler_params p, const char * grammar, const char * root,
                         const int32_t * bias_tokens, const float * bias, int32_t n_bias, const char * breakers, int32_t n_breakers) {
    return guarded([&](nl_result & r) {
        std::unique_ptr<nl_sampler> s(new nl_sampler());
        if (grammar[0] != 0) {
            check_grammar(v, grammar, root);
            s->grammar = llama_sampler_init_grammar(v, grammar, root);
            if (s->grammar == nullptr) {
                fail("");
            }
        }
        auto cp = llama_sampler_chain_default_params();
        s->chain = llama_sampler_chain_init(cp);
        std::vector<const char *> br; // n strings, one behind the other, each ended by 0
        for (int32_t i = 0; i < n_breakers; i++) {
            br.push_back(breakers);
            breakers += strlen(breakers) + 1;
        }
        chain_logit_bias(s->chain, v, p, bias_tokens, bias, n_bias, s->few.changed);
        chain_default(s->chain, v, p, br);
        s->few.k      = chain_looks_at(p);
        s->few.last_n = p.repeat_last_n;
        r.p = s.release();
    });
}

nl_result nl_sampler_free(nl_sampler * s) {
    return guarded([&](nl_result &) { delete s; });
}

nl_result nl_sampler_clone(nl_sampler * s) {
    return guarded([&](nl_result & r) {
        std::unique_ptr<nl_sampler> c(new nl_sampler());
        c->chain = llama_sampler_clone(s->chain);
        if (s->grammar != nullptr) {
            c->grammar = llama_sampler_clone(s->grammar);
        }
        c->few = s->few;
        r.p = c.release();
    });
}

nl_result nl_sampler_reset(nl_sampler * s) {
    return guarded([&](nl_result &) {
        llama_sampler_reset(s->chain);
        if (s->grammar != nullptr) {
            llama_sampler_reset(s->grammar);
        }
        s->few.reset();
    });
}

static void accept(nl_sampler * s, int32_t token, bool generated) {
    if (generated && s->grammar != nullptr) {
        llama_sampler_accept(s->grammar, token);
    }
    llama_sampler_accept(s->chain, token);
    s->few.accept(token);
}

nl_result nl_sampler_accept(nl_sampler * s, int32_t token, bool generated) {
    return guarded([&](nl_result &) { accept(s, token, generated); });
}

// Fills s->cur: with all tokens, or, if m is not 0 and that is enough for the chain, with the m largest and those whose
// logits the chain changes.
static llama_token_data_array fill(nl_sampler * s, const float * logits, int32_t n, int32_t m) {
    if (m > 0 && candidates::find(s->few, logits, n, m)) {
        s->cur.resize(s->few.ids.size());
        for (size_t i = 0; i < s->cur.size(); i++) {
            s->cur[i] = { s->few.ids[i], logits[s->few.ids[i]], 0.0f };
        }
    } else {
        s->cur.resize(n);
        for (int32_t t = 0; t < n; t++) {
            s->cur[t] = { t, logits[t], 0.0f };
        }
    }
    return llama_token_data_array{ s->cur.data(), s->cur.size(), -1, false };
}

static llama_token choose(nl_sampler * s, llama_token_data_array & a) {
    llama_sampler_apply(s->chain, &a);
    if (a.selected < 0 || (size_t) a.selected >= a.size) {
        fail("the sampler chain selected no token");
    }
    return a.data[a.selected].id;
}

// Keeps what the grammar allows, and gives how many of those have a logit that the chain does not change.
static int32_t apply_grammar(nl_sampler * s, llama_token_data_array & a) {
    llama_sampler_apply(s->grammar, &a);
    auto changes = [&](llama_token t) {
        const auto & c = s->few.changed;
        const auto & r = s->few.recent;
        return std::find(c.begin(), c.end(), t) != c.end() || std::find(r.begin(), r.end(), t) != r.end();
    };
    int32_t free = 0;
    size_t  kept = 0;
    for (size_t i = 0; i < a.size; i++) {
        if (a.data[i].logit != -INFINITY) {
            a.data[kept++] = a.data[i];
            if (free <= s->few.k && !changes(a.data[i].id)) {
                free++;
            }
        }
    }
    a.size = kept;
    return free;
}

// As common_sampler_sample (common/sampling.cpp): the chain first, and only if
// the grammar refuses its token once more with the grammar in front, because a
// grammar over the whole vocabulary is slow: it is tried on the likeliest before.
static int32_t sample_row(nl_sampler * s, const float * logits, int32_t n) {
    llama_token_data_array a  = fill(s, logits, n, s->few.k);
    const llama_token      id = choose(s, a);
    if (s->grammar == nullptr) {
        return id;
    }
    llama_token_data       one   = { id, 1.0f, 0.0f };
    llama_token_data_array check = { &one, 1, -1, false };
    llama_sampler_apply(s->grammar, &check);
    if (one.logit != -INFINITY) {
        return id;
    }
    constexpr int32_t likely = 1024;
    if (s->few.k > 0 && s->few.k <= likely / 2) {
        a = fill(s, logits, n, likely);
        if (apply_grammar(s, a) >= s->few.k) {
            return choose(s, a);
        }
    }
    a = fill(s, logits, n, 0);
    apply_grammar(s, a);
    if (a.size == 0) {
        fail("the grammar allows no token of the vocabulary here");
    }
    return choose(s, a);
}

// Pointers to the logits of n tokens of the last decode.
nl_result nl_logits_rows(nl_context * c, const int32_t * rows, int32_t n, const float ** logits) {
    return guarded([&](nl_result &) {
        llama_synchronize(c->ctx);
        for (int32_t i = 0; i < n; i++) {
            logits[i] = llama_get_logits_ith(c->ctx, rows[i]);
            if (logits[i] == nullptr) {
                fail("");
            }
        }
    });
}

// Chooses a token for each of n rows, and has its sampler remember it unless it ends the generation. r.n is the number of
// rows that were done: after an error, the one at which it happened.
nl_result nl_sample_rows(const struct llama_vocab * v, nl_sampler ** s, const float ** logits, int32_t n, int32_t * tokens, bool * ends) {
    int32_t   done = 0;
    nl_result r    = guarded([&](nl_result &) {
        const int32_t n_vocab = llama_vocab_n_tokens(v);
        for (; done < n; done++) {
            tokens[done] = sample_row(s[done], logits[done], n_vocab);
            ends[done]   = llama_vocab_is_eog(v, tokens[done]);
            if (!ends[done]) {
                accept(s[done], tokens[done], true);
            }
        }
    });
    r.n = done;
    return r;
}

nl_result nl_sampler_sample(nl_sampler * s, nl_context * c, int32_t i) {
    return guarded([&](nl_result & r) {
        llama_synchronize(c->ctx);
        const float * logits = llama_get_logits_ith(c->ctx, i);
        if (logits == nullptr) {
            fail("");
        }
        r.n = sample_row(s, logits, llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(c->ctx))));
    });
}

nl_result nl_sampler_sample_logits(nl_sampler * s, const float * logits, int32_t n) {
    return guarded([&](nl_result & r) { r.n = sample_row(s, logits, n); });
}

uint32_t nl_sampler_seed(nl_sampler * s) {
    return llama_sampler_get_seed(s->chain);
}

char * nl_sampler_print(nl_sampler * s) {
    std::string out;
    for (int32_t i = 0; i < llama_sampler_chain_n(s->chain); i++) {
        out += (i > 0 ? " " : "") + std::string(llama_sampler_name(llama_sampler_chain_get(s->chain, i)));
    }
    return copy_string(out);
}

//
// chat.go
//

struct nl_chat {
    common_chat_templates_ptr tmpls;
};

nl_result nl_chat_new(const llama_model * m, const char * tmpl, const char * bos, const char * eos) {
    return guarded([&](nl_result & r) {
        std::unique_ptr<nl_chat> t(new nl_chat());
        // common_chat_templates_init rethrows a parse error as a plain
        // std::exception; parsing here first keeps its text.
        if (tmpl[0] != 0 && strcmp(tmpl, "chatml") != 0) {
            jinja::lexer lexer;
            auto         tokens = lexer.tokenize(tmpl);
            jinja::parse_from_tokens(tokens);
        }
        t->tmpls = common_chat_templates_init(m, tmpl, bos, eos);
        r.p      = t.release();
    });
}

nl_result nl_chat_free(nl_chat * t) {
    return guarded([&](nl_result &) { delete t; });
}

nl_result nl_chat_source(nl_chat * t, const char * variant) {
    return guarded([&](nl_result & r) { r.p = copy_string(common_chat_templates_source(t->tmpls.get(), variant)); });
}

nl_result nl_chat_caps(nl_chat * t) {
    return guarded([&](nl_result & r) {
        common_json j = common_json::object();
        for (const auto & kv : common_chat_templates_get_caps(t->tmpls.get())) {
            j[kv.first] = kv.second;
        }
        j["enable_thinking"] = common_chat_templates_support_enable_thinking(t->tmpls.get());
        r.p = copy_string(j.dump());
    });
}

static nl_string copy_bytes(const std::string & s) {
    nl_string r = { copy_string(s), s.size() };
    if (r.p == nullptr) {
        throw std::bad_alloc();
    }
    return r;
}

static common_chat_templates_inputs chat_inputs(const common_json & req) {
    common_chat_templates_inputs in;
    in.messages              = common_chat_msgs_parse_oaicompat(req.at("messages"));
    in.add_generation_prompt = req.value("add_generation_prompt", true);
    in.enable_thinking       = req.value("enable_thinking", true);
    in.grammar               = req.value("grammar", "");
    in.parallel_tool_calls   = req.value("parallel_tool_calls", false);
    in.force_pure_content    = req.value("plain", false);
    in.use_jinja             = true;
    if (req.contains("tools")) {
        in.tools = common_chat_tools_parse_oaicompat(req.at("tools"));
    }
    if (req.contains("tool_choice")) {
        in.tool_choice = common_chat_tool_choice_parse_oaicompat(req.at("tool_choice").get<std::string>());
    }
    if (req.contains("json_schema")) {
        in.json_schema = req.at("json_schema").dump();
    }
    if (req.contains("reasoning_format")) {
        in.reasoning_format = common_reasoning_format_from_name(req.at("reasoning_format").get<std::string>());
    }
    if (req.contains("continue_final_message")) {
        in.continue_final_message = common_chat_continuation_parse(req.at("continue_final_message"));
    }
    if (req.contains("kwargs")) {
        for (const auto & kv : req.at("kwargs").items()) {
            in.chat_template_kwargs[kv.key()] = kv.value().dump();
        }
    }
    return in;
}

static common_json chat_details(const common_chat_params & p) {
    common_json d          = common_json::object();
    d["stops"]             = p.additional_stops;
    d["grammar"]           = p.grammar;
    d["grammar_lazy"]      = p.grammar_lazy;
    d["format"]            = (int) p.format;
    d["format_name"]       = common_chat_format_name(p.format);
    d["parser"]            = p.parser;
    d["generation_prompt"] = p.generation_prompt;
    d["supports_thinking"] = p.supports_thinking;
    d["thinking_start"]    = p.thinking_start_tag;
    d["thinking_end"]      = p.thinking_end_tags;
    d["preserved_tokens"]  = p.preserved_tokens;
    return d;
}

nl_chat_result nl_chat_render(nl_chat * t, const char * request, size_t n) {
    nl_chat_result out = {};
    nl_result      r   = guarded([&](nl_result &) {
        const common_json req = common_json::parse(std::string(request, n));
        const auto        p   = common_chat_templates_apply(t->tmpls.get(), chat_inputs(req));
        out.details           = copy_bytes(chat_details(p).dump_safe());
        out.prompt            = copy_bytes(p.prompt);
    });
    out.err = r.err;
    return out;
}

nl_result nl_chat_parse(nl_chat *, const char * request, size_t n) {
    return guarded([&](nl_result & r) {
        const common_json         req = common_json::parse(std::string(request, n));
        common_chat_parser_params p;
        const int                 format = req.at("format").get<int>();
        if (format < 0 || format >= COMMON_CHAT_FORMAT_COUNT) {
            fail("unknown chat format");
        }
        p.format            = (common_chat_format) format;
        p.generation_prompt = req.value("generation_prompt", "");
        p.parse_tool_calls  = req.value("parse_tool_calls", true);
        p.reasoning_format  = common_reasoning_format_from_name(req.value("reasoning_format", "none"));
        const std::string parser = req.value("parser", "");
        if (!parser.empty()) {
            p.parser.load(parser);
        }
        const auto msg = common_chat_parse(req.at("text").get<std::string>(), req.value("partial", false), p);
        r.p = copy_string(msg.to_json_oaicompat(true).dump_safe());
    });
}

//
// quantize.go
//

nl_result nl_quantize(const char * in, const char * out, const llama_model_quantize_params * p, uintptr_t progress) {
    return guarded([&](nl_result &) {
        if (llama_model_quantize(in, out, p) != 0) {
            fail("");
        }
    }, progress);
}

//
// rows.go
//

// Rows are converted through a small f32 buffer, a few of them at a time, so
// that a call needs little memory whatever the size of the tensor.
constexpr int64_t row_chunk = 32 * 1024; // elements, at least one row

static void to_f32(const uint8_t * src, int32_t type, float * dst, int64_t n) {
    if (type == GGML_TYPE_F16) {
        kernel_f16_to_f32(reinterpret_cast<const ggml_fp16_t *>(src), dst, n);
    } else if (type == GGML_TYPE_BF16) {
        kernel_bf16_to_f32(src, dst, n);
    } else {
        ggml_get_type_traits((ggml_type) type)->to_float(src, dst, n);
    }
}

static const float * rows_to_f32(const uint8_t * src, int32_t type, int64_t n, std::vector<float> & buf) {
    if (type == GGML_TYPE_F32) {
        if (reinterpret_cast<uintptr_t>(src) % alignof(float) == 0) {
            return reinterpret_cast<const float *>(src);
        }
        memcpy(buf.data(), src, (size_t) n * sizeof(float));
        return buf.data();
    }
    to_f32(src, type, buf.data(), n);
    return buf.data();
}

int32_t nl_kernels(void) {
    return kernels_now();
}

int32_t nl_best_kernels(void) {
    return kernels_best();
}

void nl_use_kernels(int32_t set) {
    kernels_chosen.store(set);
    kernels_off.store(set == kernels_plain);
}

nl_result nl_encode_rows(uint8_t * dst, int32_t dst_type, const uint8_t * src, int32_t src_type, int64_t nrows, int64_t n_per_row, const float * imatrix, int32_t through_half) {
    return guarded([&](nl_result &) {
        const size_t  src_row = ggml_row_size((ggml_type) src_type, n_per_row);
        const size_t  dst_row = ggml_row_size((ggml_type) dst_type, n_per_row);
        const int64_t step    = std::max<int64_t>(1, row_chunk / n_per_row);
        const bool direct = !through_half && src_type == GGML_TYPE_F32 && reinterpret_cast<uintptr_t>(src) % alignof(float) == 0;
        std::vector<float> buf(direct ? 0 : (size_t) (std::min(step, nrows) * n_per_row));
        for (int64_t i = 0; i < nrows; i += step) {
            const int64_t n = std::min(step, nrows - i);
            if (through_half && !kernel_through_half((ggml_type) src_type, src + i * src_row, buf.data(), n * n_per_row)) {
                fail("a value is not finite as f16");
            }
            const float * x = through_half ? buf.data() : rows_to_f32(src + i * src_row, src_type, n * n_per_row, buf);
            if (dst_type == GGML_TYPE_F16) {
                kernel_f32_to_f16(x, reinterpret_cast<ggml_fp16_t *>(dst + i * dst_row), n * n_per_row);
                continue;
            }
            kernel_encode((ggml_type) dst_type, x, dst + i * dst_row, n, n_per_row, imatrix);
        }
    });
}

nl_result nl_decode_rows(float * dst, const uint8_t * src, int32_t src_type, int64_t nrows, int64_t n_per_row) {
    return guarded([&](nl_result &) {
        if (src_type == GGML_TYPE_F32) {
            memcpy(dst, src, (size_t) (nrows * n_per_row) * sizeof(float));
            return;
        }
        to_f32(src, src_type, dst, nrows * n_per_row);
    });
}

void nl_add_low_rank(float * w, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale) {
    kernel_low_rank(w, b, a, rows, cols, r, scale);
}

// Where the f16 scales of a block lie (ggml-common.h).
static std::vector<size_t> scale_offsets(int32_t type) {
    switch (type) {
        case GGML_TYPE_Q4_0: case GGML_TYPE_Q5_0: case GGML_TYPE_Q8_0: case GGML_TYPE_IQ4_NL: case GGML_TYPE_IQ4_XS:
        case GGML_TYPE_IQ2_XXS: case GGML_TYPE_IQ2_XS: case GGML_TYPE_IQ2_S: case GGML_TYPE_IQ3_XXS: case GGML_TYPE_IQ3_S:
        case GGML_TYPE_IQ1_S: return { 0 };
        case GGML_TYPE_Q4_1: case GGML_TYPE_Q5_1: case GGML_TYPE_Q4_K: case GGML_TYPE_Q5_K: return { 0, 2 };
        case GGML_TYPE_Q2_K:  return { 80, 82 };
        case GGML_TYPE_Q3_K:  return { 108 };
        case GGML_TYPE_Q6_K:  return { 208 };
        case GGML_TYPE_TQ1_0: return { 52 };
        case GGML_TYPE_TQ2_0: return { 64 };
        case GGML_TYPE_F16:   return { 0 };
        default:              return {};
    }
}

// The index of the first block with a scale (or value) that is not finite, or -1.
// ggml_validate_row_data finds the same, but prints it to stderr.
static int64_t find_not_finite(int32_t type, const uint8_t * data, size_t n) {
    const size_t size = ggml_type_size((ggml_type) type);
    if (type == GGML_TYPE_F32 || type == GGML_TYPE_BF16) { // exponents in the upper 16 bits
        for (size_t i = size - 2; i < n; i += size) {
            if ((data[i + 1] & 0x7f) == 0x7f && (data[i] & 0x80) != 0) {
                return (int64_t) (i / size);
            }
        }
        return -1;
    }
    for (const size_t offset : scale_offsets(type)) {
        for (size_t i = offset; i < n; i += size) {
            if ((data[i + 1] & 0x7c) == 0x7c) {
                return (int64_t) (i / size);
            }
        }
    }
    return -1;
}

nl_result nl_validate_rows(int32_t type, const uint8_t * data, size_t n) {
    return guarded([&](nl_result &) {
        const bool plain = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
        if (plain && n % ggml_type_size((ggml_type) type) == 0 && kernel_finite((ggml_type) type, data, n)) {
            return;
        }
        const int64_t bad = find_not_finite(type, data, n);
        if (bad >= 0) {
            throw std::runtime_error("block " + std::to_string(bad) + " has a value that is not finite");
        }
        if (!ggml_validate_row_data((ggml_type) type, data, n)) {
            fail("a block has a value that is not valid");
        }
    });
}
