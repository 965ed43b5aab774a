// Contexts: decoding, logits, the KV cache, state (context.go).
#include "guard.h"

#include <memory>
#include <vector>

extern "C" int32_t nlGoAbort(uintptr_t handle); // callback.go

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
