// w += scale · (b · a): the low-rank update of rows. Vectors run along the
// columns, and for each element the products are summed over k from 0 up, each
// multiplication and addition rounded (no fused multiply-add), so that the bits
// do not depend on the width of the vectors.
#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__gnu_linux__)
#define NL_CLONES __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3,fp-contract=off")))
#elif defined(__GNUC__) && !defined(__clang__)
#define NL_CLONES __attribute__((optimize("O3,fp-contract=off")))
#else
#define NL_CLONES
#endif

// w [rows, cols], b [rows, r], a [r, cols]. Columns are
// taken in strips that stay in the first cache.
NL_CLONES static void kernel_low_rank(float * __restrict w, const float * __restrict b, const float * __restrict a, int64_t rows,
                                      int64_t cols, int64_t r, float scale) {
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
    const int64_t strip = 256;
    float         sums[strip];
    for (int64_t c0 = 0; c0 < cols; c0 += strip) {
        const int64_t n = cols - c0 < strip ? cols - c0 : strip;
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < n; j++) {
                sums[j] = 0;
            }
            for (int64_t k = 0; k < r; k++) {
                const float   f   = b[i * r + k];
                const float * row = a + k * cols + c0;
                for (int64_t j = 0; j < n; j++) {
                    sums[j] += f * row[j];
                }
            }
            float * out = w + i * cols + c0;
            for (int64_t j = 0; j < n; j++) {
                out[j] += scale * sums[j];
            }
        }
    }
}
