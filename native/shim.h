// The C face of llama.cpp that the Go files call. Every function that can fail
// returns an nl_result by value: no C++ exception and no assert on the calling
// thread passes it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ggml.h"
#include "ggml-backend.h"
#include "gguf.h"
#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

// One result for all calls: a number, a pointer, or an error. err is malloc'ed,
// the caller frees it: the reason, then 0x1e, then the log lines of the call,
// each a level digit, the text and a newline. broken: an assert was caught and
// the object must not be used any more.
typedef struct nl_result {
    int64_t n;
    void *  p;
    char *  err;
    bool    broken;
} nl_result;

// A malloc'ed string with its length (it may hold any byte).
typedef struct nl_string {
    char * p;
    size_t n;
} nl_string;

// backend.go
void         nl_hooks(void); // log and assert handlers, before anything else
nl_result    nl_init(void);  // backends
char *       nl_library_path(void);
void         nl_forward_log(bool on);
const char * nl_build_commit(void);
int32_t      nl_build_number(void);
int32_t      nl_math_cpus(void);
nl_result    nl_cpu_features(void); // p: malloc'ed "NAME=VALUE\n" lines
char *       nl_backend_file(ggml_backend_reg_t reg);
nl_result    nl_numa_init(int32_t strategy);

// model.go
nl_result nl_model_load(const char * path, struct llama_model_params p, uintptr_t progress, const float * split, int32_t n_split);
nl_result nl_model_free(struct llama_model * m);
nl_result nl_tokenize(const struct llama_vocab * v, const char * text, int32_t len, int32_t * out, int32_t cap, bool special, bool parse);
nl_result nl_piece(const struct llama_vocab * v, int32_t token, char * buf, int32_t cap, bool special);
nl_result nl_detokenize(const struct llama_vocab * v, const int32_t * tokens, int32_t n, char * buf, int32_t cap, bool remove, bool unparse);
nl_result nl_meta_val(const struct llama_model * m, const char * key, char * buf, size_t cap);

// adapter.go
nl_result nl_adapter_load(struct llama_model * m, const char * path);
nl_result nl_adapter_free(struct llama_adapter_lora * a);

// context.go
typedef struct nl_context {
    struct llama_context * ctx;
    struct llama_batch     batch; // capacity n_batch, n_seq_max sequences each
    int32_t                cap;
    int32_t                seqs;
    volatile int32_t       abort; // set by Go, read by the compute thread
    uintptr_t              abort_fn;
    int64_t                abort_next_us;
} nl_context;

nl_result nl_context_new(struct llama_model * m, struct llama_context_params p);
nl_result nl_context_free(nl_context * c);
void      nl_context_abort(nl_context * c, bool on);
nl_result nl_decode(nl_context * c, int32_t n);
nl_result nl_decode_tokens(nl_context * c, const int32_t * tokens, int32_t n, int32_t seq, int32_t pos, int32_t logits);
nl_result nl_synchronize(nl_context * c);
nl_result nl_logits(nl_context * c, int32_t i);
nl_result nl_embeddings(nl_context * c, int32_t i);
nl_result nl_embeddings_seq(nl_context * c, int32_t seq);
nl_result nl_seq_rm(nl_context * c, int32_t seq, int32_t p0, int32_t p1);
nl_result nl_seq_cp(nl_context * c, int32_t src, int32_t dst, int32_t p0, int32_t p1);
nl_result nl_seq_keep(nl_context * c, int32_t seq);
nl_result nl_seq_add(nl_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t delta);
nl_result nl_seq_div(nl_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t d);
nl_result nl_memory_clear(nl_context * c, bool data);
nl_result nl_state_size(nl_context * c);
nl_result nl_state_get(nl_context * c, uint8_t * dst, size_t n);
nl_result nl_state_set(nl_context * c, const uint8_t * src, size_t n);
nl_result nl_state_save(nl_context * c, const char * path, const int32_t * tokens, size_t n);
nl_result nl_state_load(nl_context * c, const char * path, int32_t * tokens, size_t cap);
nl_result nl_seq_state_size(nl_context * c, int32_t seq);
nl_result nl_seq_state_get(nl_context * c, uint8_t * dst, size_t n, int32_t seq);
nl_result nl_seq_state_set(nl_context * c, const uint8_t * src, size_t n, int32_t seq);
nl_result nl_set_adapters(nl_context * c, struct llama_adapter_lora ** a, float * scales, size_t n);

// sampler.go
typedef struct nl_sampler_params {
    uint32_t seed;
    int32_t  top_k, min_keep, repeat_last_n, mirostat, dry_allowed_length, dry_last_n;
    float    temp, top_p, min_p, typical_p, top_n_sigma;
    float    repeat, frequency, presence;
    float    mirostat_tau, mirostat_eta;
    float    dynatemp_range, dynatemp_exponent;
    float    xtc_probability, xtc_threshold;
    float    dry_multiplier, dry_base;
    bool     penalize_nl;
    bool     ignore_eog;
} nl_sampler_params;

typedef struct nl_sampler nl_sampler;

nl_result nl_sampler_new(const struct llama_vocab * v, nl_sampler_params p, const char * grammar, const char * root,
                         const int32_t * bias_tokens, const float * bias, int32_t n_bias, const char * breakers, int32_t n_breakers);
nl_result nl_sampler_free(nl_sampler * s);
nl_result nl_sampler_clone(nl_sampler * s);
nl_result nl_sampler_reset(nl_sampler * s);
nl_result nl_sampler_accept(nl_sampler * s, int32_t token, bool generated);
nl_result nl_sampler_sample(nl_sampler * s, nl_context * c, int32_t i);
nl_result nl_sampler_sample_logits(nl_sampler * s, const float * logits, int32_t n);
nl_result nl_logits_rows(nl_context * c, const int32_t * rows, int32_t n, const float ** logits);
nl_result nl_sample_rows(const struct llama_vocab * v, nl_sampler ** s, const float ** logits, int32_t n, int32_t * tokens, bool * ends);
uint32_t  nl_sampler_seed(nl_sampler * s);
char *    nl_sampler_print(nl_sampler * s);

// chat.go
typedef struct nl_chat nl_chat;

typedef struct nl_chat_result {
    char *    err;
    nl_string prompt;  // the rendered text
    nl_string details; // JSON: stops, grammar, grammar_lazy, format, parser, generation_prompt, thinking tags
} nl_chat_result;

nl_result      nl_chat_new(const struct llama_model * m, const char * tmpl, const char * bos, const char * eos);
nl_result      nl_chat_free(nl_chat * t);
nl_result      nl_chat_source(nl_chat * t, const char * variant); // p: malloc'ed text
nl_result      nl_chat_caps(nl_chat * t);                         // p: malloc'ed JSON object of booleans
nl_chat_result nl_chat_render(nl_chat * t, const char * request, size_t n);
nl_result      nl_chat_parse(nl_chat * t, const char * request, size_t n); // p: malloc'ed JSON message

// importance.go
typedef struct nl_importance nl_importance;

typedef struct nl_importance_entry {
    const char *    name;
    const float *   sums;
    int64_t         n_sums;
    const int64_t * counts;
    int64_t         n_counts;
} nl_importance_entry;

nl_importance *     nl_importance_new(void);
void                nl_importance_free(nl_importance * c);
bool                nl_importance_collect(struct ggml_tensor * t, bool ask, void * c); // a ggml_backend_sched_eval_callback
int64_t             nl_importance_count(nl_importance * c);
const char *        nl_importance_error(nl_importance * c); // NULL: none
nl_importance_entry nl_importance_at(nl_importance * c, int64_t i);

// quantize.go
nl_result nl_quantize(const char * in, const char * out, const struct llama_model_quantize_params * p, uintptr_t progress);

// rows.go
int32_t   nl_kernels(void);      // the kernel_set in use (kernels/kernels.h)
int32_t   nl_best_kernels(void); // the best one of this CPU
void      nl_use_kernels(int32_t set); // -1: the best
nl_result nl_encode_rows(uint8_t * dst, int32_t dst_type, const uint8_t * src, int32_t src_type, int64_t nrows, int64_t n_per_row, const float * imatrix, int32_t through_half);
nl_result nl_add_low_rank(uint8_t * w, int32_t type, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale);
nl_result nl_decode_rows(float * dst, const uint8_t * src, int32_t src_type, int64_t nrows, int64_t n_per_row);
nl_result nl_validate_rows(int32_t type, const uint8_t * data, size_t n);

#ifdef __cplusplus
}
#endif
