// Sums of squares of what matrices are multiplied with, for importance.go. The
// function runs between the nodes of a graph: no exception may leave it, and an
// error ends the computation.
#include "shim.h"

#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

namespace {

struct entry {
    std::vector<float>   sums;   // a row of columns for every matrix of the tensor
    std::vector<int64_t> counts; // of rows seen: one, or one for every expert
};

// A weight's name without the device before it and the copy's number behind it.
std::string plain_name(const char * name) {
    const char * from = strchr(name, '#');
    if (from == nullptr) {
        return name;
    }
    const char * to = strchr(++from, '#');
    return to != nullptr ? std::string(from, to) : std::string(from);
}

} // namespace

struct nl_importance {
    std::mutex                   mu;
    std::map<std::string, entry> entries;
    std::string                  error;
    std::vector<char>            values, ids; // copies of what is not in the CPU's memory
};

static const char * host_data(const ggml_tensor * t, std::vector<char> & copy) {
    const ggml_backend_buffer_t buffer = t->view_src != nullptr ? t->view_src->buffer : t->buffer;
    if (buffer != nullptr && ggml_backend_buffer_is_host(buffer)) {
        return static_cast<const char *>(t->data);
    }
    copy.resize(ggml_nbytes(t));
    ggml_backend_tensor_get(t, copy.data(), 0, copy.size());
    return copy.data();
}

static void add_row(float * sums, const char * row, int64_t n) {
    const float * x = reinterpret_cast<const float *>(row);
    for (int64_t i = 0; i < n; i++) {
        sums[i] += x[i] * x[i];
    }
}

static entry & entry_of(nl_importance * c, const std::string & name, int64_t columns, int64_t matrices, int64_t counts) {
    entry & e = c->entries[name];
    if (e.sums.empty()) {
        e.sums.resize(columns * matrices);
        e.counts.resize(counts);
    }
    return e;
}

// Rows of an ordinary product: each counts once for its matrix.
static void collect_dense(nl_importance * c, const std::string & name, const ggml_tensor * w, const ggml_tensor * x) {
    const char * data     = host_data(x, c->values);
    const int64_t matrices = w->ne[2] * w->ne[3];
    entry & e = entry_of(c, name, x->ne[0], matrices, 1);
    for (int64_t i3 = 0; i3 < x->ne[3]; i3++) {
        for (int64_t i2 = 0; i2 < x->ne[2]; i2++) {
            float * sums = e.sums.data() + ((i3 % w->ne[3]) * w->ne[2] + i2 % w->ne[2]) * x->ne[0];
            for (int64_t i1 = 0; i1 < x->ne[1]; i1++) {
                add_row(sums, data + i1 * x->nb[1] + i2 * x->nb[2] + i3 * x->nb[3], x->ne[0]);
            }
        }
    }
    e.counts[0] += ggml_nrows(x) / matrices;
}

// Rows of a product with chosen experts: ids has a row of experts for every token.
static void collect_experts(nl_importance * c, const std::string & name, const ggml_tensor * w, const ggml_tensor * x, const ggml_tensor * ids) {
    const char * data    = host_data(x, c->values);
    const char * chosen  = host_data(ids, c->ids);
    const int64_t experts = w->ne[2];
    entry & e = entry_of(c, name, x->ne[0], experts, experts);
    for (int64_t k = 0; k < ids->ne[0]; k++) {
        for (int64_t token = 0; token < x->ne[2]; token++) {
            int32_t expert;
            memcpy(&expert, chosen + token * ids->nb[1] + k * ids->nb[0], sizeof(expert));
            if (expert < 0 || expert >= experts) {
                throw std::string("an expert's number is out of range");
            }
            e.counts[expert]++;
            add_row(e.sums.data() + expert * x->ne[0], data + (k % x->ne[1]) * x->nb[1] + token * x->nb[2], x->ne[0]);
        }
    }
}

extern "C" nl_importance * nl_importance_new(void) {
    return new (std::nothrow) nl_importance();
}

extern "C" void nl_importance_free(nl_importance * c) {
    delete c;
}

extern "C" bool nl_importance_collect(struct ggml_tensor * t, bool ask, void * data) {
    auto * c = static_cast<nl_importance *>(data);
    if (t->op != GGML_OP_MUL_MAT && t->op != GGML_OP_MUL_MAT_ID) {
        return !ask;
    }
    try {
        std::lock_guard<std::mutex> lock(c->mu);
        const ggml_tensor * w = t->src[0];
        const ggml_tensor * x = t->src[1];
        const std::string name = plain_name(w->name);
        const bool wanted = name.compare(0, 4, "blk.") == 0 && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float);
        if (ask || !wanted) {
            return wanted || !ask;
        }
        if (t->op == GGML_OP_MUL_MAT_ID) {
            collect_experts(c, name, w, x, t->src[2]);
        } else {
            collect_dense(c, name, w, x);
        }
        return true;
    } catch (const std::string & what) {
        c->error = what;
    } catch (...) {
        static const char * none = "out of memory";
        try {
            c->error = none;
        } catch (...) { // no memory for the message either: the result is refused for the missing entry
        }
    }
    return false;
}

extern "C" int64_t nl_importance_count(nl_importance * c) {
    return (int64_t) c->entries.size();
}

extern "C" const char * nl_importance_error(nl_importance * c) {
    return c->error.empty() ? nullptr : c->error.c_str();
}

extern "C" nl_importance_entry nl_importance_at(nl_importance * c, int64_t i) {
    auto it = c->entries.begin();
    std::advance(it, i);
    return { it->first.c_str(), it->second.sums.data(), (int64_t) it->second.sums.size(), it->second.counts.data(), (int64_t) it->second.counts.size() };
}
