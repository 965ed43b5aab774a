// w += scale · (b · a): the low-rank update of rows. Vectors run along the columns, and for each element the products
// are summed over k from 0 up, each multiplication and addition rounded by itself, so that the bits do not depend on
// the width of the vectors.

// low_rank_one updates one element.
static inline void low_rank_one(float * w, const float * b, const float * a, int64_t cols, int64_t r, float scale) {
    float sum = 0;
    for (int64_t k = 0; k < r; k++) {
        sum = sum + b[k] * a[k * cols];
    }
    *w = *w + scale * sum;
}

// low_rank_tile updates ROWS rows of two vectors, whose sums stay in registers.
template <int ROWS> static inline void low_rank_tile(float * w, const float * b, const float * a, int64_t cols, int64_t r, float scale) {
    vf left[ROWS], right[ROWS];
    for (int i = 0; i < ROWS; i++) {
        left[i] = right[i] = all(0);
    }
    for (int64_t k = 0; k < r; k++) {
        const vf x = load(a + k * cols), y = load(a + k * cols + LANES);
        for (int i = 0; i < ROWS; i++) {
            const vf f = all(b[i * r + k]);
            left[i]    = left[i] + f * x;
            right[i]   = right[i] + f * y;
        }
    }
    for (int i = 0; i < ROWS; i++) {
        float * out = w + i * cols;
        store(out, load(out) + all(scale) * left[i]);
        store(out + LANES, load(out + LANES) + all(scale) * right[i]);
    }
}

// low_rank: w [rows, cols], b [rows, r], a [r, cols].
static void low_rank(float * w, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale) {
    for (int64_t c = 0; c < cols; c += 2 * LANES) {
        if (cols - c < 2 * LANES) {
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t j = c; j < cols; j++) {
                    low_rank_one(w + i * cols + j, b + i * r, a + j, cols, r, scale);
                }
            }
            return;
        }
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4) {
            low_rank_tile<4>(w + i * cols + c, b + i * r, a + c, cols, r, scale);
        }
        for (; i < rows; i++) {
            low_rank_tile<1>(w + i * cols + c, b + i * r, a + c, cols, r, scale);
        }
    }
}
