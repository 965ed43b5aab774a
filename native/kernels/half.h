// Rows between f32 and f16, and from bf16: eight values at a time with F16C and AVX2 where the CPU has
// them, else ggml's plain loops. The bytes are the same: both round to the nearest,
// ties to even, and groups with a NaN, whose bits F16C keeps and ggml does not,
// take the plain way.
#pragma once

#include "ggml.h"

#include <atomic>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx,f16c"))) static inline void kernel_f32_to_f16_f16c(const float * x, ggml_fp16_t * y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        if (_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) != 0) {
            ggml_fp32_to_fp16_row(x + i, y + i, 8);
            continue;
        }
        _mm_storeu_si128(reinterpret_cast<__m128i *>(y + i), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    ggml_fp32_to_fp16_row(x + i, y + i, n - i);
}

__attribute__((target("avx,f16c"))) static inline void kernel_f16_to_f32_f16c(const ggml_fp16_t * x, float * y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x + i)));
        if (_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) != 0) {
            ggml_fp16_to_fp32_row(x + i, y + i, 8);
            continue;
        }
        _mm256_storeu_ps(y + i, v);
    }
    ggml_fp16_to_fp32_row(x + i, y + i, n - i);
}

// kernel_load8 gives eight values of BF16, F16 or F32 as f32.
__attribute__((target("avx2,f16c"))) static inline __m256 kernel_load8(ggml_type type, const uint8_t * p) {
    if (type == GGML_TYPE_F32) {
        return _mm256_loadu_ps(reinterpret_cast<const float *>(p));
    }
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return type == GGML_TYPE_F16 ? _mm256_cvtph_ps(half) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

// kernel_exact16 tells whether 16 values of BF16 are all numbers of f16 too: from 2^-17, whose seven digits end at f16's last,
// 2^-24, to below 2^16.
__attribute__((target("avx2"))) static inline bool kernel_exact16(const uint8_t * p) {
    const __m256i v     = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    const __m256i above = _mm256_sub_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0x7fff)), _mm256_set1_epi16(0x3700));
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_min_epu16(above, _mm256_set1_epi16(0x477f - 0x3700)), above)) == -1;
}

// kernel_through_half_avx2 does the groups of eight that are whole, and tells whether all of these are finite as f16.
__attribute__((target("avx2,f16c"))) static inline bool kernel_through_half_avx2(ggml_type type, const uint8_t * x, float * y, int64_t n) {
    const int     size     = type == GGML_TYPE_F32 ? 4 : 2;
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __m256i       bad      = _mm256_setzero_si256();
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        if (type == GGML_TYPE_BF16 && i + 16 <= n && kernel_exact16(x + i * size)) { // most weights: there is nothing to round
            _mm256_storeu_ps(y + i, kernel_load8(type, x + i * size));
            i += 8;
            _mm256_storeu_ps(y + i, kernel_load8(type, x + i * size));
            continue;
        }
        __m256 v = kernel_load8(type, x + i * size);
        if (type != GGML_TYPE_F16) {
            v = _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        }
        bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(v), exponent), exponent));
        _mm256_storeu_ps(y + i, v);
    }
    return _mm256_testz_si256(bad, bad) != 0;
}

__attribute__((target("avx2,f16c"))) static inline void kernel_bf16_to_f32_avx2(const uint8_t * x, float * y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(y + i, kernel_load8(GGML_TYPE_BF16, x + 2 * i));
    }
    ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t *>(x) + i, y + i, n - i);
}

static inline bool kernel_has_avx2() {
    static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
    return has;
}

static inline bool kernel_has_f16c() {
    static const bool has = __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
    return has;
}
#else
static inline bool kernel_has_avx2() { return false; }
static inline bool kernel_through_half_avx2(ggml_type, const uint8_t *, float *, int64_t) { return true; }
static inline void kernel_bf16_to_f32_avx2(const uint8_t *, float *, int64_t) {}
static inline bool kernel_has_f16c() { return false; }
static inline void kernel_f32_to_f16_f16c(const float *, ggml_fp16_t *, int64_t) {}
static inline void kernel_f16_to_f32_f16c(const ggml_fp16_t *, float *, int64_t) {}
#endif

static std::atomic<bool> kernels_off{ false }; // for tests of the plain way

static inline void kernel_f32_to_f16(const float * x, ggml_fp16_t * y, int64_t n) {
    if (kernel_has_f16c() && !kernels_off.load(std::memory_order_relaxed)) {
        kernel_f32_to_f16_f16c(x, y, n);
    } else {
        ggml_fp32_to_fp16_row(x, y, n);
    }
}

static inline void kernel_f16_to_f32(const ggml_fp16_t * x, float * y, int64_t n) {
    if (kernel_has_f16c() && !kernels_off.load(std::memory_order_relaxed)) {
        kernel_f16_to_f32_f16c(x, y, n);
    } else {
        ggml_fp16_to_fp32_row(x, y, n);
    }
}

static inline void kernel_bf16_to_f32(const uint8_t * x, float * y, int64_t n) {
    if (kernel_has_avx2() && !kernels_off.load(std::memory_order_relaxed)) {
        kernel_bf16_to_f32_avx2(x, y, n);
    } else {
        ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t *>(x), y, n);
    }
}

// kernel_through_half rounds n values of F32, F16 or BF16 to f16 and gives them as f32. It tells whether all are finite;
// if not, y is of no use.
static inline bool kernel_through_half(ggml_type type, const uint8_t * x, float * y, int64_t n) {
    const size_t size   = ggml_type_size(type);
    int64_t      i      = 0;
    bool         finite = true;
    if (kernel_has_avx2() && !kernels_off.load(std::memory_order_relaxed)) {
        i      = n / 8 * 8;
        finite = kernel_through_half_avx2(type, x, y, i);
    }
    if (type == GGML_TYPE_F32) {
        memcpy(y + i, x + i * size, (n - i) * size);
    } else {
        ggml_get_type_traits(type)->to_float(x + i * size, y + i, n - i);
    }
    for (; i < n; i++) {
        y[i]   = ggml_fp16_to_fp32(ggml_fp32_to_fp16(y[i]));
        finite = finite && std::isfinite(y[i]);
    }
    return finite;
}
