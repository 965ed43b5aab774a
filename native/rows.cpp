// Rows of tensors: encoding, decoding, checking (rows.go). kernels.go sees to it that a change in kernels/ alone counts.
#include "guard.h"

#include "kernels/half.h"
#include "kernels/kernels.h"

#include <algorithm>
#include <vector>

// Rows are converted through a small f32 buffer, a few of them at a time, so
// that a call needs little memory whatever the size of the tensor.
constexpr int64_t row_chunk = 32 * 1024; // elements, at least one row

static void to_f32(const uint8_t * src, int32_t type, float * dst, int64_t n) {
    if (type == GGML_TYPE_F16) {
        kernel_f16_to_f32(reinterpret_cast<const ggml_fp16_t *>(src), dst, n);
    } else if (type == GGML_TYPE_BF16) {
        kernel_bf16_to_f32(src, dst, n);
    } else {
        ggml_get_type_traits((ggml_type) type)->to_float(src, dst, n);
    }
}

static const float * rows_to_f32(const uint8_t * src, int32_t type, int64_t n, std::vector<float> & buf) {
    if (type == GGML_TYPE_F32) {
        if (reinterpret_cast<uintptr_t>(src) % alignof(float) == 0) {
            return reinterpret_cast<const float *>(src);
        }
        memcpy(buf.data(), src, (size_t) n * sizeof(float));
        return buf.data();
    }
    to_f32(src, type, buf.data(), n);
    return buf.data();
}

int32_t nl_kernels(void) {
    return kernels_now();
}

int32_t nl_best_kernels(void) {
    return kernels_best();
}

void nl_use_kernels(int32_t set) {
    kernels_chosen.store(set);
    kernels_off.store(set == kernels_plain);
}

nl_result nl_encode_rows(uint8_t * dst, int32_t dst_type, const uint8_t * src, int32_t src_type, int64_t nrows, int64_t n_per_row, const float * imatrix, int32_t through_half) {
    return guarded([&](nl_result &) {
        const size_t  src_row = ggml_row_size((ggml_type) src_type, n_per_row);
        const size_t  dst_row = ggml_row_size((ggml_type) dst_type, n_per_row);
        const int64_t step    = std::max<int64_t>(1, row_chunk / n_per_row);
        const bool direct = !through_half && src_type == GGML_TYPE_F32 && reinterpret_cast<uintptr_t>(src) % alignof(float) == 0;
        std::vector<float> buf(direct ? 0 : (size_t) (std::min(step, nrows) * n_per_row));
        for (int64_t i = 0; i < nrows; i += step) {
            const int64_t n = std::min(step, nrows - i);
            if (through_half && !kernel_through_half((ggml_type) src_type, src + i * src_row, buf.data(), n * n_per_row)) {
                fail("a value is not finite as f16");
            }
            const float * x = through_half ? buf.data() : rows_to_f32(src + i * src_row, src_type, n * n_per_row, buf);
            if (dst_type == GGML_TYPE_F16) {
                kernel_f32_to_f16(x, reinterpret_cast<ggml_fp16_t *>(dst + i * dst_row), n * n_per_row);
                continue;
            }
            kernel_encode((ggml_type) dst_type, x, dst + i * dst_row, n, n_per_row, imatrix);
        }
    });
}

nl_result nl_decode_rows(float * dst, const uint8_t * src, int32_t src_type, int64_t nrows, int64_t n_per_row) {
    return guarded([&](nl_result &) {
        if (src_type == GGML_TYPE_F32) {
            memcpy(dst, src, (size_t) (nrows * n_per_row) * sizeof(float));
            return;
        }
        to_f32(src, src_type, dst, nrows * n_per_row);
    });
}

// from_f32 rounds to F16 or BF16, or copies to F32.
static void from_f32(const float * src, int32_t type, uint8_t * dst, int64_t n) {
    if (type == GGML_TYPE_F16) {
        kernel_f32_to_f16(src, reinterpret_cast<ggml_fp16_t *>(dst), n);
    } else if (type == GGML_TYPE_BF16) {
        kernel_encode(GGML_TYPE_BF16, src, dst, 1, n, nullptr);
    } else {
        memcpy(dst, src, (size_t) n * sizeof(float));
    }
}

// Strips of columns, a few rows of them at a time: the f32 values and the strip's part of a stay in the first cache. That
// part is copied together: where it lies, its rows may be a power of two apart and push each other out.
nl_result nl_add_low_rank(uint8_t * w, int32_t type, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale) {
    return guarded([&](nl_result &) {
        constexpr int64_t group = 8;
        const int64_t size  = (int64_t) ggml_type_size((ggml_type) type);
        const int64_t width = std::min(cols, std::clamp<int64_t>(4096 / r / 32 * 32, 64, 256));
        std::vector<float> strip((size_t) (r * width)), block((size_t) (group * width));
        for (int64_t c = 0; c < cols; c += width) {
            const int64_t n = std::min(width, cols - c);
            for (int64_t k = 0; k < r; k++) {
                memcpy(strip.data() + k * n, a + k * cols + c, (size_t) n * sizeof(float));
            }
            for (int64_t i = 0; i < rows; i += group) {
                const int64_t m = std::min(group, rows - i);
                for (int64_t j = 0; j < m; j++) {
                    const uint8_t * row = w + ((i + j) * cols + c) * size;
                    if (type == GGML_TYPE_F32) {
                        memcpy(block.data() + j * n, row, (size_t) n * sizeof(float));
                    } else {
                        to_f32(row, type, block.data() + j * n, n);
                    }
                }
                kernel_low_rank(block.data(), b + i * r, strip.data(), m, n, r, scale);
                for (int64_t j = 0; j < m; j++) {
                    from_f32(block.data() + j * n, type, w + ((i + j) * cols + c) * size, n);
                }
            }
        }
    });
}

// Where the f16 scales of a block lie (ggml-common.h).
static std::vector<size_t> scale_offsets(int32_t type) {
    switch (type) {
        case GGML_TYPE_Q4_0: case GGML_TYPE_Q5_0: case GGML_TYPE_Q8_0: case GGML_TYPE_IQ4_NL: case GGML_TYPE_IQ4_XS:
        case GGML_TYPE_IQ2_XXS: case GGML_TYPE_IQ2_XS: case GGML_TYPE_IQ2_S: case GGML_TYPE_IQ3_XXS: case GGML_TYPE_IQ3_S:
        case GGML_TYPE_IQ1_S: return { 0 };
        case GGML_TYPE_Q4_1: case GGML_TYPE_Q5_1: case GGML_TYPE_Q4_K: case GGML_TYPE_Q5_K: return { 0, 2 };
        case GGML_TYPE_Q2_K:  return { 80, 82 };
        case GGML_TYPE_Q3_K:  return { 108 };
        case GGML_TYPE_Q6_K:  return { 208 };
        case GGML_TYPE_TQ1_0: return { 52 };
        case GGML_TYPE_TQ2_0: return { 64 };
        case GGML_TYPE_F16:   return { 0 };
        default:              return {};
    }
}

// The index of the first block with a scale (or value) that is not finite, or -1.
// ggml_validate_row_data finds the same, but prints it to stderr.
static int64_t find_not_finite(int32_t type, const uint8_t * data, size_t n) {
    const size_t size = ggml_type_size((ggml_type) type);
    if (type == GGML_TYPE_F32 || type == GGML_TYPE_BF16) { // exponents in the upper 16 bits
        for (size_t i = size - 2; i < n; i += size) {
            if ((data[i + 1] & 0x7f) == 0x7f && (data[i] & 0x80) != 0) {
                return (int64_t) (i / size);
            }
        }
        return -1;
    }
    for (const size_t offset : scale_offsets(type)) {
        for (size_t i = offset; i < n; i += size) {
            if ((data[i + 1] & 0x7c) == 0x7c) {
                return (int64_t) (i / size);
            }
        }
    }
    return -1;
}

nl_result nl_validate_rows(int32_t type, const uint8_t * data, size_t n) {
    return guarded([&](nl_result &) {
        const bool plain = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
        if (plain && n % ggml_type_size((ggml_type) type) == 0 && kernel_finite((ggml_type) type, data, n)) {
            return;
        }
        const int64_t bad = find_not_finite(type, data, n);
        if (bad >= 0) {
            throw std::runtime_error("block " + std::to_string(bad) + " has a value that is not finite");
        }
        if (!ggml_validate_row_data((ggml_type) type, data, n)) {
            fail("a block has a value that is not valid");
        }
    });
}
