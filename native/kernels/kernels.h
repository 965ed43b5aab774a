// Row encoders for the types of quantized weights, with the bytes of ggml's own: compiled for several instruction sets,
// the best of which is chosen at run time. Types that are not here, and blocks with odd values, go to ggml.
#pragma once

#include "ggml.h"

#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__GNUC__) && !defined(__clang__) // clang spells shuffles in another way: with it ggml encodes
#define NL_HAS_KERNELS 1
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum kernel_set { kernels_plain, kernels_128, kernels_avx2, kernels_avx512 };

#if NL_HAS_KERNELS
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=off", "no-math-errno", "no-trapping-math")
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"

namespace kernels128 {
#define LANES 4
static inline void put_half(uint8_t * p, float x) {
    const ggml_fp16_t h = ggml_fp32_to_fp16(x);
    memcpy(p, &h, 2);
}
static inline float get_half(const uint8_t * p) {
    ggml_fp16_t h;
    memcpy(&h, p, 2);
    return ggml_fp16_to_fp32(h);
}
#include "lanes.h"
#include "search.h"
#include "simple.h"
#include "kquants.h"
#include "weighted.h"
#include "encode.h"
#include "lowrank.h"
#include "finite.h"
#undef LANES
} // namespace kernels128

#if defined(__x86_64__)
#define NL_HALF                                                                                                                  \
    static inline void put_half(uint8_t * p, float x) {                                                                          \
        const ggml_fp16_t h = x == x ? (ggml_fp16_t) _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), 0), 0) : ggml_fp32_to_fp16(x); \
        memcpy(p, &h, 2);                                                                                                        \
    }                                                                                                                            \
    static inline float get_half(const uint8_t * p) {                                                                            \
        uint16_t h;                                                                                                              \
        memcpy(&h, p, 2);                                                                                                        \
        return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));                                                                \
    }

#pragma GCC push_options
#pragma GCC target("avx2,f16c")
namespace kernels_of_avx2 {
#define LANES 8
NL_HALF
#include "lanes.h"
#include "search.h"
#include "simple.h"
#include "kquants.h"
#include "weighted.h"
#include "encode.h"
#include "lowrank.h"
#include "finite.h"
#undef LANES
} // namespace kernels_of_avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,f16c,prefer-vector-width=512")
namespace kernels_of_avx512 {
#define LANES 16
NL_HALF
#include "lanes.h"
#include "search.h"
#include "simple.h"
#include "kquants.h"
#include "weighted.h"
#include "encode.h"
#include "lowrank.h"
#include "finite.h"
#undef LANES
} // namespace kernels_of_avx512
#pragma GCC pop_options
#undef NL_HALF
#endif

#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif

// kernels_best is the best set that this CPU has.
static inline kernel_set kernels_best() {
#if NL_HAS_KERNELS && defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("f16c")) {
        return kernels_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) {
        return kernels_avx2;
    }
#endif
#if NL_HAS_KERNELS
    return kernels_128;
#else
    return kernels_plain;
#endif
}

static std::atomic<int> kernels_chosen{ -1 }; // -1: the best

static inline int kernels_now() {
    const int k = kernels_chosen.load(std::memory_order_relaxed);
    return k >= 0 ? k : (int) kernels_best();
}

#if NL_HAS_KERNELS
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off") // a CPU whose compiler joins products and sums by itself would give other bits
#endif
static inline void low_rank_plain(float * w, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale) {
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            float sum = 0;
            for (int64_t k = 0; k < r; k++) {
                sum = sum + b[i * r + k] * a[k * cols + j];
            }
            w[i * cols + j] = w[i * cols + j] + scale * sum;
        }
    }
}
#if NL_HAS_KERNELS
#pragma GCC pop_options
#endif

// kernel_low_rank is w += scale · (b · a), with the same bits whatever the set (lowrank.h).
static inline void kernel_low_rank(float * w, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale) {
    switch (kernels_now()) {
#if NL_HAS_KERNELS && defined(__x86_64__)
        case kernels_avx512:
            return kernels_of_avx512::low_rank(w, b, a, rows, cols, r, scale);
        case kernels_avx2:
            return kernels_of_avx2::low_rank(w, b, a, rows, cols, r, scale);
#endif
#if NL_HAS_KERNELS
        case kernels_128:
            return kernels128::low_rank(w, b, a, rows, cols, r, scale);
#endif
    }
    low_rank_plain(w, b, a, rows, cols, r, scale);
}

// kernel_finite tells whether all of n bytes of F16, BF16 or F32 are known to be finite. Without kernels nothing is.
static inline bool kernel_finite(ggml_type type, const uint8_t * p, size_t n) {
    switch (kernels_now()) {
#if NL_HAS_KERNELS && defined(__x86_64__)
        case kernels_avx512:
            return kernels_of_avx512::finite(type, p, n);
        case kernels_avx2:
            return kernels_of_avx2::finite(type, p, n);
#endif
#if NL_HAS_KERNELS
        case kernels_128:
            return kernels128::finite(type, p, n);
#endif
    }
    return false;
}

// kernel_encode encodes rows as ggml_quantize_chunk does.
static inline void kernel_encode(ggml_type type, const float * x, uint8_t * y, int64_t nrows, int64_t n, const float * importance) {
    bool done = false;
    switch (kernels_now()) {
#if NL_HAS_KERNELS && defined(__x86_64__)
        case kernels_avx512:
            done = kernels_of_avx512::encode(type, x, y, nrows, n, importance);
            break;
        case kernels_avx2:
            done = kernels_of_avx2::encode(type, x, y, nrows, n, importance);
            break;
#endif
#if NL_HAS_KERNELS
        case kernels_128:
            done = kernels128::encode(type, x, y, nrows, n, importance);
            break;
#endif
    }
    if (!done) {
        ggml_quantize_chunk(type, x, y, 0, nrows, n, importance);
    }
}
