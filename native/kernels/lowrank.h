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

// low_rank_tile updates ROWS rows of two vectors, whose sums stay in registers. The rows of a are stride apart.
template <int ROWS>
static inline void low_rank_tile(float * w, const float * b, const float * a, int64_t stride, int64_t cols, int64_t r, float scale) {
    vf left[ROWS], right[ROWS];
    for (int i = 0; i < ROWS; i++) {
        left[i] = right[i] = all(0);
    }
    for (int64_t k = 0; k < r; k++) {
        const vf x = load(a + k * stride), y = load(a + k * stride + LANES);
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

// low_rank_strip updates the first width columns of all rows.
static inline void low_rank_strip(float * w, const float * b, const float * a, int64_t stride, int64_t width, int64_t rows, int64_t cols,
                                  int64_t r, float scale) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        for (int64_t c = 0; c < width; c += 2 * LANES) {
            low_rank_tile<4>(w + i * cols + c, b + i * r, a + c, stride, cols, r, scale);
        }
    }
    for (; i < rows; i++) {
        for (int64_t c = 0; c < width; c += 2 * LANES) {
            low_rank_tile<1>(w + i * cols + c, b + i * r, a + c, stride, cols, r, scale);
        }
    }
}

// low_rank: w [rows, cols], b [rows, r], a [r, cols]. Wide matrices are taken in strips of columns whose part of a is
// copied together and stays in the first cache: where it lies, its rows may be a power of two apart and push each other out.
static void low_rank(float * w, const float * b, const float * a, int64_t rows, int64_t cols, int64_t r, float scale) {
    enum { PACKED = 4096, WIDEST = 256 };
    float         packed[PACKED];
    const int64_t whole = cols - cols % (2 * LANES);
    const int64_t width = PACKED / r < WIDEST ? PACKED / r / (2 * LANES) * (2 * LANES) : WIDEST;
    if (cols <= WIDEST || width == 0) {
        low_rank_strip(w, b, a, cols, whole, rows, cols, r, scale);
    } else {
        for (int64_t c = 0; c < whole; c += width) {
            const int64_t n = whole - c < width ? whole - c : width;
            for (int64_t k = 0; k < r; k++) {
                memcpy(packed + k * n, a + k * cols + c, n * sizeof(float));
            }
            low_rank_strip(w + c, b, packed, n, n, rows, cols, r, scale);
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = whole; j < cols; j++) {
            low_rank_one(w + i * cols + j, b + i * r, a + j, cols, r, scale);
        }
    }
}
