// The C++ half of the C boundary; see shim.h. Every entry runs inside guarded() of guard.h. Here: logging and asserts,
// backends, models, adapters, whole-file quantization; contexts, samplers, chat templates and rows have files of their own.
#include "guard.h"

#include "build-info.h"
#include "common.h"
#include "log.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <vector>

// callback.go
extern "C" {
void    nlGoLog(int32_t level, char * text);
int32_t nlGoLoadProgress(float progress, uintptr_t handle);
int32_t nlGoQuantizeLog(uintptr_t handle, int32_t level, char * text);
}

namespace {

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
// quantize.go
//

nl_result nl_quantize(const char * in, const char * out, const llama_model_quantize_params * p, uintptr_t progress) {
    return guarded([&](nl_result &) {
        if (llama_model_quantize(in, out, p) != 0) {
            fail("");
        }
    }, progress);
}
