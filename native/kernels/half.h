// Rows between f32 and f16: eight values at a time with F16C where the CPU has
// it, else ggml's plain loops. The bytes are the same: both round to the nearest,
// ties to even, and groups with a NaN, whose bits F16C keeps and ggml does not,
// take the plain way.
#pragma once

#include "ggml.h"

#include <atomic>

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

static inline bool kernel_has_f16c() {
    static const bool has = __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
    return has;
}
#else
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
