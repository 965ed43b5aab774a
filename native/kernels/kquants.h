// Super-blocks of 256 with 8 or 16 sub-blocks. The sub-blocks' scales are searched one per lane (search.h); what
// follows for a super-block is done as ggml-quants.c does it. A super-block whose scales are not finite, or that has
// a sub-block whose rounded scale is 0 and whose levels therefore stay those of the search, goes to ggml's encoder.

static const int super = 256;
static const int batch = 16; // super-blocks whose scales are searched together

// scales_of holds what the searches gave, in the order of the sub-blocks.
struct scales_of {
    float scale[batch * 16 + LANES], offset[batch * 16 + LANES];
};

// weighting makes the weights of the values of a sub-block.
enum weighting { w_square, w_magnitude, w_mean_and_magnitude, w_importance, w_importance_root };

// weigh fills the weights of n values x of LANES sub-blocks. importance has the same layout; sigma2 is that of each
// lane's super-block or row.
static inline void weigh(weighting kind, const vf * x, vf * w, int n, const vf * importance, vf sigma2) {
    switch (kind) {
        case w_square:
            for (int i = 0; i < n; i++) {
                w[i] = x[i] * x[i];
            }
            return;
        case w_magnitude:
            for (int i = 0; i < n; i++) {
                w[i] = magnitude(x[i]);
            }
            return;
        case w_mean_and_magnitude: {
            vf sum = all(0);
            for (int i = 0; i < n; i++) {
                sum = sum + x[i] * x[i];
            }
            const vf mean = square_root(sum / all((float) n));
            for (int i = 0; i < n; i++) {
                w[i] = mean + magnitude(x[i]);
            }
            return;
        }
        case w_importance:
            for (int i = 0; i < n; i++) {
                w[i] = importance[i];
            }
            return;
        case w_importance_root:
            for (int i = 0; i < n; i++) {
                w[i] = importance[i] * square_root(sigma2 + x[i] * x[i]);
            }
            return;
    }
}

// sums_of_squares sums the squares of each of count streams of n values, one after the other.
static void sums_of_squares(const float * x, int64_t n, int64_t count, float * out) {
    for (int64_t first = 0; first < count; first += LANES) {
        const int64_t here = count - first < LANES ? count - first : LANES;
        vf            sum  = all(0);
        for (int64_t j = 0; j < n; j += LANES) {
            vf v[LANES];
            columns(v, x + first * n + j, n, here, LANES);
            for (int i = 0; i < LANES; i++) {
                sum = sum + v[i] * v[i];
            }
        }
        memcpy(out + first, &sum, sizeof(float) * here);
    }
}

// kind says how a type is encoded.
struct kind {
    ggml_type type;
    int       size;    // bytes of a super-block
    int       n;       // values of a sub-block
    int       top;     // highest level, or number of negative levels of symmetric ones
    weighting weights;
    float     first, delta; // of the search with a minimum
    int       steps;
    bool      absolute;
};

// lanes_of is what a search works on: values and weights of LANES sub-blocks.
struct lanes_of {
    vf x[32], w[32];
};

// gather loads sub-blocks first … of count. importance, if any, is that of a row of n_per_row values; sigma2 is by
// super-block.
static inline void gather(const kind & k, const float * x, int64_t first, int64_t count, const float * importance, int64_t n_per_row,
                          int64_t offset, const float * sigma2, lanes_of & l) {
    const int64_t here = count - first < LANES ? count - first : LANES;
    columns(l.x, x + first * k.n, k.n, here, k.n);
    vf q[32], s = all(0);
    if (importance != nullptr) {
        for (int j = 0; j < k.n; j += LANES) {
            for (int i = 0; i < LANES; i++) {
                const int64_t at = (offset + (first + (i < here ? i : here - 1)) * k.n) % n_per_row;
                q[j + i]         = load(importance + at + j);
            }
            transpose(q + j);
        }
        for (int i = 0; i < LANES; i++) {
            s[i] = sigma2[(first + (i < here ? i : here - 1)) * k.n / super];
        }
    }
    weigh(k.weights, l.x, l.w, k.n, q, s);
}

// sum_weights stores the sum of each sub-block's weights.
static inline void sum_weights(const lanes_of & l, int n, float * out) {
    vf sum = all(0);
    for (int i = 0; i < n; i++) {
        sum = sum + l.w[i];
    }
    store(out, sum);
}

static inline bool finite_all(const float * v, int n) {
    bool ok = true;
    for (int i = 0; i < n; i++) {
        ok &= __builtin_fabsf(v[i]) <= FLT_MAX;
    }
    return ok;
}

// levels_of makes the levels of a super-block: nearest((x + offset)/scale), from low to high, plus add. It gives up at
// a scale of 0.
static inline bool levels_of(const float * x, const float * scale, const float * offset, int n, int low, int high, int add, uint8_t * l) {
    for (int j = 0; j < super / n; j++) {
        if (scale[j] == 0) {
            return false;
        }
        const vf d = all(scale[j]), o = all(offset[j]);
        for (int i = 0; i < n; i += LANES) {
            const vi v = clamp(nearest((load(x + j * n + i) + o) / d), low, high) + add;
            const vb b = __builtin_convertvector(v, vb);
            memcpy(l + j * n + i, &b, LANES);
        }
    }
    return true;
}

// levels_without is levels_of for scales without offsets, whose sums with 0 could differ in the sign of zero only.
static inline bool levels_without(const float * x, const float * scale, int n, int low, int high, int add, uint8_t * l) {
    for (int j = 0; j < super / n; j++) {
        if (scale[j] == 0) {
            return false;
        }
        const vf d = all(scale[j]);
        for (int i = 0; i < n; i += LANES) {
            const vb b = __builtin_convertvector(clamp(nearest(load(x + j * n + i) / d), low, high) + add, vb);
            memcpy(l + j * n + i, &b, LANES);
        }
    }
    return true;
}

// pack_pairs packs levels of 4 bits (q4_K, q5_K): 32 low nibbles, 32 high ones.
static inline void pack_pairs(const uint8_t * l, uint8_t * q) {
    for (int j = 0; j < super; j += 64, q += 32) {
        for (int i = 0; i < 32; i++) {
            q[i] = (l[j + i] & 15) | (l[j + i + 32] & 15) << 4;
        }
    }
}

// pack_quarters packs levels of 2 bits (q2_K, q3_K): four of them 32 apart in a byte.
static inline void pack_quarters(const uint8_t * l, uint8_t * q) {
    for (int j = 0; j < super; j += 128, q += 32) {
        for (int i = 0; i < 32; i++) {
            q[i] = (l[j + i] & 3) | (l[j + i + 32] & 3) << 2 | (l[j + i + 64] & 3) << 4 | (l[j + i + 96] & 3) << 6;
        }
    }
}

static inline void greatest(const float * v, int n, float * out) {
    float m = 0;
    for (int i = 0; i < n; i++) {
        m = v[i] > m ? v[i] : m;
    }
    *out = m;
}

// strongest is the value of the largest magnitude, the first of them.
static inline float strongest(const float * v, int n, float * amount) {
    float a = 0, m = 0;
    for (int i = 0; i < n; i++) {
        const float b = __builtin_fabsf(v[i]);
        if (b > a) {
            a = b;
            m = v[i];
        }
    }
    *amount = a;
    return m;
}

// finish_2 ends a super-block of q2_K. ls and lm are the levels of scales and offsets.
static inline bool finish_2(const float * x, const uint8_t * ls, const uint8_t * lm, float d, float dmin, uint8_t * y) {
    put_half(y + 80, d);
    put_half(y + 82, dmin);
    const float dh = get_half(y + 80), mh = get_half(y + 82);
    float       scale[16], offset[16];
    for (int j = 0; j < 16; j++) {
        y[j]      = (uint8_t) (ls[j] | lm[j] << 4);
        scale[j]  = dh * (float) (y[j] & 15);
        offset[j] = mh * (float) (y[j] >> 4);
    }
    uint8_t l[super];
    if (!levels_of(x, scale, offset, 16, 0, 3, 0, l)) {
        return false;
    }
    pack_quarters(l, y + 16);
    return true;
}

// finish_45 ends a super-block of q4_K or q5_K.
static inline bool finish_45(const float * x, const uint8_t * ls, const uint8_t * lm, float d, float dmin, int top, uint8_t * y) {
    put_half(y, d);
    put_half(y + 2, dmin);
    const float dh = get_half(y), mh = get_half(y + 2);
    uint8_t *   s = y + 4;
    for (int j = 0; j < 4; j++) {
        s[j]     = (uint8_t) (ls[j] | ls[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t) (lm[j] | lm[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t) ((ls[j + 4] & 15) | (lm[j + 4] & 15) << 4);
    }
    float scale[8], offset[8];
    for (int j = 0; j < 8; j++) {
        scale[j]  = dh * (float) ls[j];
        offset[j] = mh * (float) lm[j];
    }
    uint8_t l[super];
    if (!levels_of(x, scale, offset, 32, 0, top, 0, l)) {
        return false;
    }
    if (top == 15) {
        pack_pairs(l, y + 16);
        return true;
    }
    for (int i = 0; i < 32; i++) {
        int h = 0;
        for (int j = 0; j < 8; j++) {
            h |= (l[32 * j + i] >> 4) << j;
        }
        y[16 + i] = (uint8_t) h;
    }
    pack_pairs(l, y + 48);
    return true;
}

// finish_3 ends a super-block of q3_K. ls are levels 0 … 63.
static inline bool finish_3(const float * x, const uint8_t * ls, float d, uint8_t * y) {
    put_half(y + 108, d);
    const float dh = get_half(y + 108);
    uint8_t *   s  = y + 96;
    memset(s, 0, 12);
    float scale[16];
    for (int j = 0; j < 16; j++) {
        s[j % 8] |= (uint8_t) ((ls[j] & 15) << (j < 8 ? 0 : 4));
        s[8 + j % 4] |= (uint8_t) (ls[j] >> 4 << 2 * (j / 4));
        scale[j] = dh * (float) (ls[j] - 32);
    }
    uint8_t l[super];
    if (!levels_without(x, scale, 16, -4, 3, 4, l)) {
        return false;
    }
    for (int i = 0; i < 32; i++) {
        int h = 0;
        for (int j = 0; j < 8; j++) {
            h |= (l[32 * j + i] >> 2) << j;
        }
        y[i] = (uint8_t) h;
    }
    pack_quarters(l, y + 32);
    return true;
}

// finish_6 ends a super-block of q6_K.
static inline bool finish_6(const float * x, const float * scales, uint8_t * y) {
    float       amount;
    const float max = strongest(scales, 16, &amount);
    if (amount < tiny_group) {
        memset(y, 0, 210);
        return true;
    }
    const float inv = -128.f / max;
    put_half(y + 208, 1 / inv);
    const float dh = get_half(y + 208);
    float       scale[16];
    for (int j = 0; j < 16; j++) {
        const int r = nearest_one(inv * scales[j]);
        y[192 + j]  = (uint8_t) (r < 127 ? r : 127);
        scale[j]    = dh * (float) (int8_t) y[192 + j];
    }
    uint8_t l[super];
    if (!levels_without(x, scale, 16, -32, 31, 32, l)) {
        return false;
    }
    for (int h = 0; h < 2; h++) {
        const uint8_t * a  = l + 128 * h;
        uint8_t *       ql = y + 64 * h, *qh = y + 128 + 32 * h;
        for (int i = 0; i < 32; i++) {
            ql[i]      = (uint8_t) ((a[i] & 15) | (a[i + 64] & 15) << 4);
            ql[i + 32] = (uint8_t) ((a[i + 32] & 15) | (a[i + 96] & 15) << 4);
            qh[i]      = (uint8_t) (a[i] >> 4 | a[i + 32] >> 4 << 2 | a[i + 64] >> 4 << 4 | a[i + 96] >> 4 << 6);
        }
    }
    return true;
}

// round_scales rounds scales and offsets of a super-block without importances: the largest becomes top.
static inline void round_scales(const scales_of & s, int first, int n, float top, bool six, uint8_t * ls, uint8_t * lm, float * d, float * dmin) {
    const float * from[2]  = { s.scale + first, s.offset + first };
    uint8_t *     to[2]    = { ls, lm };
    float *       scale[2] = { d, dmin };
    for (int side = 0; side < 2; side++) {
        float max;
        greatest(from[side], n, &max);
        const float inv = max > 0 ? top / max : 0.f;
        for (int j = 0; j < n; j++) {
            int l = nearest_one(inv * from[side][j]);
            if (six) {
                l &= 0xff;
                l = l < 63 ? l : 63;
            }
            to[side][j] = (uint8_t) (max > 0 || six ? l : 0);
        }
        *scale[side] = max > 0 || six ? max / top : 0.f;
    }
}

// refine_scales does it with weights (make_qp_quants), for the scales of several super-blocks at once.
static void refine_scales(const float * v, const float * w, int64_t count, int n, int top, uint8_t * levels, float * d) {
    for (int64_t first = 0; first < count; first += LANES) {
        const int64_t here = count - first < LANES ? count - first : LANES;
        vf            x[16], y[16];
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < LANES; j++) {
                const int64_t at = (first + (j < here ? j : here - 1)) * n + i;
                x[i][j]          = v[at];
                y[i][j]          = w[at];
            }
        }
        vi       l[16];
        const vf s = positive(x, y, n, top, l);
        memcpy(d + first, &s, sizeof(float) * here);
        for (int64_t j = 0; j < here; j++) {
            for (int i = 0; i < n; i++) {
                levels[(first + j) * n + i] = (uint8_t) l[i][j];
            }
        }
    }
}

// refine_symmetric does it with make_qx_quants, for q3_K with importances.
static void refine_symmetric(const float * v, const float * w, int64_t count, uint8_t * levels, float * d) {
    for (int64_t first = 0; first < count; first += LANES) {
        const int64_t here = count - first < LANES ? count - first : LANES;
        vf            x[16], y[16], inverse;
        for (int i = 0; i < 16; i++) {
            for (int j = 0; j < LANES; j++) {
                const int64_t at = (first + (j < here ? j : here - 1)) * 16 + i;
                x[i][j]          = v[at];
                y[i][j]          = w[at];
            }
        }
        vi       zeros;
        const vf s = symmetric(x, y, 16, 32, &inverse, &zeros);
        memcpy(d + first, &s, sizeof(float) * here);
        for (int i = 0; i < 16; i++) {
            const vi l = picki(zeros, alli(0), clamp(nearest(inverse * x[i]), -32, 31) + 32);
            for (int64_t j = 0; j < here; j++) {
                levels[(first + j) * 16 + i] = (uint8_t) l[j];
            }
        }
    }
}

// refine finds the scales of all sub-blocks for q3_K without importances.
static void refine(const float * x, int64_t count, int top, scales_of & s) {
    vf v[at_once][16];
    for (int64_t first = 0; first < count; first += at_once * LANES) {
        for (int k = 0; k < at_once; k++) {
            const int64_t at = first + k * LANES < count ? first + k * LANES : first; // the last ones may be fewer
            columns(v[k], x + at * 16, 16, count - at < LANES ? count - at : LANES, 16);
            store(s.offset + first + k * LANES, all(0));
        }
        refined(v, top, s.scale + first);
    }
}

// encode_super encodes whole super-blocks. importance is nullptr or that of a row of n_per_row values.
static void encode_super(const kind & k, const float * x, uint8_t * y, int64_t n, int64_t n_per_row, const float * importance) {
    const int per = super / k.n;
    for (int64_t done = 0; done < n / super; done += batch) {
        const int64_t blocks = n / super - done < batch ? n / super - done : batch;
        const float * xs     = x + done * super;
        const int64_t count  = blocks * per;
        scales_of     s;
        float         sigma2[batch + LANES], sums[batch * 16 + LANES];
        if (importance != nullptr) {
            sums_of_squares(xs, super, blocks, sigma2);
            for (int64_t i = 0; i < blocks; i++) { // twice the mean, but for q2_K
                sigma2[i] = k.type == GGML_TYPE_Q2_K ? sigma2[i] / super : 2 * sigma2[i] / super;
            }
        }
        const bool refining = k.type == GGML_TYPE_Q3_K && importance == nullptr;
        if (refining) {
            refine(xs, count, k.top, s);
        }
        for (int64_t first = 0; first < count && !refining; first += LANES) {
            lanes_of l;
            gather(k, xs, first, count, importance, n_per_row, done * super, sigma2, l);
            if (importance != nullptr) {
                sum_weights(l, k.n, sums + first);
            }
            vf scale, offset = all(0), inverse;
            vi zeros;
            if (k.type == GGML_TYPE_Q6_K || k.type == GGML_TYPE_Q3_K) {
                scale = symmetric(l.x, l.w, 16, k.top, &inverse, &zeros);
            } else {
                const range r = with_minimum(l.x, l.w, k.n, k.top, k.first, k.delta, k.steps, k.absolute, importance != nullptr);
                scale         = r.scale;
                offset        = r.offset;
            }
            store(s.scale + first, scale);
            store(s.offset + first, offset);
        }
        uint8_t ls[batch * 16], lm[batch * 16];
        float   d[batch], dmin[batch];
        if (importance != nullptr && k.type == GGML_TYPE_Q3_K) {
            refine_symmetric(s.scale, sums, blocks, ls, d);
        } else if (importance != nullptr && k.type != GGML_TYPE_Q6_K) {
            refine_scales(s.scale, sums, blocks, per, k.type == GGML_TYPE_Q2_K ? 15 : 63, ls, d);
            refine_scales(s.offset, sums, blocks, per, k.type == GGML_TYPE_Q2_K ? 15 : 63, lm, dmin);
        }
        for (int64_t i = 0; i < blocks; i++) {
            const float * xb = xs + i * super;
            uint8_t *     yb = y + (done + i) * k.size;
            uint8_t *     a = ls + i * per, *b = lm + i * per;
            bool          ok = finite_all(s.scale + i * per, per) && finite_all(s.offset + i * per, per);
            if (ok && importance == nullptr && k.type != GGML_TYPE_Q6_K && k.type != GGML_TYPE_Q3_K) {
                const bool six = k.type != GGML_TYPE_Q2_K;
                round_scales(s, (int) i * per, per, six ? 63.f : 15.f, six, a, b, d + i, dmin + i);
            }
            for (int j = 0; ok && importance != nullptr && (k.type == GGML_TYPE_Q4_K || k.type == GGML_TYPE_Q5_K) && j < per; j++) {
                if (k.type == GGML_TYPE_Q4_K) { // negative scales wrap around, and spoil their neighbours
                    ok = a[j] < 64 && b[j] < 64;
                }
                a[j] = a[j] < 63 ? a[j] : 63;
                b[j] = b[j] < 63 ? b[j] : 63;
            }
            if (ok) {
                switch (k.type) {
                    case GGML_TYPE_Q2_K:
                        ok = finish_2(xb, a, b, d[i], dmin[i], yb);
                        break;
                    case GGML_TYPE_Q3_K:
                        if (importance == nullptr) {
                            float       amount;
                            const float max = strongest(s.scale + i * 16, 16, &amount);
                            const float inv = -32.f / max;
                            ok              = max != 0;
                            for (int j = 0; ok && j < 16; j++) {
                                int l = (int8_t) nearest_one(inv * s.scale[i * 16 + j]);
                                l     = l < 31 ? l : 31;
                                a[j]  = (uint8_t) ((l > -32 ? l : -32) + 32);
                            }
                            d[i] = 1 / inv;
                        }
                        ok = ok && finish_3(xb, a, d[i], yb);
                        break;
                    case GGML_TYPE_Q4_K:
                    case GGML_TYPE_Q5_K:
                        ok = finish_45(xb, a, b, d[i], dmin[i], k.top, yb);
                        break;
                    default:
                        ok = finish_6(xb, s.scale + i * 16, yb);
                }
            }
            if (!ok) {
                const float * q = importance == nullptr ? nullptr : importance + (done + i) * super % n_per_row;
                ggml_quantize_chunk(k.type, xb, yb, 0, 1, super, q);
            }
        }
    }
}
