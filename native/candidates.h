// The tokens that a sampler chain can choose from, without looking at all of the vocabulary.
//
// A chain whose first steps change the logits of few tokens (bias, penalties) and then keeps the k largest, or the
// largest, chooses the same from a subset: those few, and of all others the k largest. Only among equal logits the
// order, and with it a random choice, may be another.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace candidates {

// A chain that looks at more than this many is given all of the vocabulary.
constexpr int32_t max_k = 2048;

// What a sampler remembers for it.
struct state {
    int32_t              k      = 0; // the largest logits that count; 0: all
    int32_t              last_n = 0; // accepted tokens whose logits are changed
    size_t               next   = 0; // of recent, a ring once it is full
    std::vector<int32_t> changed;    // tokens with a bias
    std::vector<int32_t> recent;
    std::vector<int32_t> ids;        // scratch

    void accept(int32_t t) {
        if (k == 0 || last_n <= 0) {
            return;
        }
        if ((int32_t) recent.size() < last_n) {
            recent.push_back(t);
            return;
        }
        recent[next] = t;
        next         = (next + 1) % recent.size();
    }

    void reset() {
        recent.clear();
        next = 0;
    }
};

// Adds the ids of the m largest logits to ids, and perhaps some more. NaN and minus infinity are left out.
inline void largest(const float * logits, int32_t n, int32_t m, std::vector<int32_t> & ids) {
    const auto   larger = [&](int32_t a, int32_t b) { return logits[a] > logits[b]; };
    const size_t first  = ids.size();
    const size_t full   = first + 2 * (size_t) m + 256;
    float        floor  = -INFINITY;
    auto         shrink = [&]() {
        std::nth_element(ids.begin() + first, ids.begin() + first + (m - 1), ids.end(), larger);
        ids.resize(first + m);
        floor = logits[ids.back()];
    };
    constexpr int32_t step = 32; // looked at together: almost always none is large enough
    int32_t           i    = 0;
    for (; i + step <= n; i += step) {
        int above = 0;
        for (int32_t j = 0; j < step; j++) {
            above |= logits[i + j] > floor;
        }
        if (above == 0) {
            continue;
        }
        for (int32_t j = i; j < i + step; j++) {
            if (logits[j] > floor) {
                ids.push_back(j);
            }
        }
        if (ids.size() >= full) {
            shrink();
        }
    }
    for (; i < n; i++) {
        if (logits[i] > floor) {
            ids.push_back(i);
        }
    }
    if (ids.size() > first + (size_t) m) {
        shrink();
    }
}

// Fills s.ids, in ascending order: at least the m largest of the tokens whose logits nothing changes, and those that
// something changes. False if a chain must be given the whole vocabulary.
inline bool find(state & s, const float * logits, int32_t n, int32_t m) {
    if (s.k <= 0 || m <= 0 || m >= n / 4) {
        return false;
    }
    s.ids.clear();
    auto add = [&](int32_t t) {
        if (t >= 0 && t < n) {
            s.ids.push_back(t);
        }
    };
    std::for_each(s.changed.begin(), s.changed.end(), add);
    std::for_each(s.recent.begin(), s.recent.end(), add);
    std::sort(s.ids.begin(), s.ids.end());
    s.ids.erase(std::unique(s.ids.begin(), s.ids.end()), s.ids.end());
    const int32_t special = (int32_t) s.ids.size();
    if (special + m >= n / 4) {
        return false;
    }
    largest(logits, n, m + special, s.ids);
    if ((int32_t) s.ids.size() < special + m) {
        return false; // too few finite logits to be sure
    }
    std::sort(s.ids.begin(), s.ids.end());
    s.ids.erase(std::unique(s.ids.begin(), s.ids.end()), s.ids.end());
    return true;
}

} // namespace candidates
