// Samplers: one token out of logits (sampler.go).
#include "guard.h"

#include "common.h"
#include "llama-grammar.h"

#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

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
