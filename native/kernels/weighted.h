// Blocks of 32 with importances (quantize_row_q4_0_impl and its like), and the types whose levels are those of a fixed
// table (iq4_nl, iq4_xs).

// spread writes the levels of LANES blocks of 32, 32 bytes each.
static inline void spread(const vi * l, uint8_t * out) {
    for (int i = 0; i < block32; i++) {
        for (int j = 0; j < LANES; j++) {
            out[j * block32 + i] = (uint8_t) l[i][j];
        }
    }
}

// pack_block packs the levels of one block: its fifth bits to qh, if there are any, the others to qs.
static inline void pack_block(const uint8_t * l, uint8_t * qh, uint8_t * qs) {
    for (int i = 0; i < 16; i++) {
        qs[i] = (uint8_t) ((l[i] & 15) | (l[i + 16] & 15) << 4);
    }
    if (qh == nullptr) {
        return;
    }
    uint32_t h = 0;
    for (int i = 0; i < block32; i++) {
        h |= (uint32_t) (l[i] >> 4 & 1) << i;
    }
    memcpy(qh, &h, 4);
}

// encode_weighted encodes rows of q4_0, q4_1, q5_0 or q5_1 with importances.
static void encode_weighted(ggml_type type, const float * x, uint8_t * y, int64_t nrows, int64_t n, const float * importance) {
    const bool five = type == GGML_TYPE_Q5_0 || type == GGML_TYPE_Q5_1, minimum = type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1;
    const int  top = (minimum ? 15 : 8) * (five ? 2 : 1) + (five && minimum ? 1 : 0), head = minimum ? 4 : 2, size = head + (five ? 4 : 0) + 16;
    for (int64_t row0 = 0; row0 < nrows; row0 += LANES) {
        const int64_t rows = nrows - row0 < LANES ? nrows - row0 : LANES;
        float         sums[LANES];
        sums_of_squares(x + row0 * n, n, rows, sums);
        for (int64_t r = 0; r < rows; r++) {
            const float * xr = x + (row0 + r) * n;
            uint8_t *     yr = y + (row0 + r) * (n / block32) * size;
            const vf      s2 = all(sums[r] / n);
            bool          ok = true;
            for (int64_t b = 0; b < n / block32 && ok; b += LANES) {
                const int64_t here = n / block32 - b < LANES ? n / block32 - b : LANES;
                vf            v[block32], q[block32], w[block32], scale, low = all(0), inverse;
                vi            l[block32], none;
                columns(v, xr + b * block32, block32, here, block32);
                columns(q, importance + b * block32, block32, here, block32);
                weigh(w_importance_root, v, w, block32, q, s2);
                if (minimum) {
                    const range g = with_minimum(v, w, block32, top, -0.9f, 0.05f, 36, false, true);
                    scale         = g.scale;
                    low           = -g.offset;
                    for (int i = 0; i < block32; i++) {
                        l[i] = picki(g.flat, alli(0), clamp(nearest(g.inverse * (v[i] - g.low)), 0, top));
                    }
                } else {
                    scale = symmetric(v, w, block32, top, &inverse, &none);
                    for (int i = 0; i < block32; i++) {
                        l[i] = picki(none, alli(0), clamp(nearest(inverse * v[i]), -top, top - 1) + top);
                    }
                }
                uint8_t levels[LANES * block32];
                spread(l, levels);
                for (int64_t i = 0; i < here; i++) {
                    uint8_t * out = yr + (b + i) * size;
                    ok &= __builtin_fabsf(scale[i]) <= FLT_MAX && __builtin_fabsf(low[i]) <= FLT_MAX;
                    put_half(out, scale[i]);
                    if (minimum) {
                        put_half(out + 2, low[i]);
                    }
                    pack_block(levels + i * block32, five ? out + head : nullptr, out + size - 16);
                }
            }
            if (!ok) {
                ggml_quantize_chunk(type, xr, yr, 0, 1, n, importance);
            }
        }
    }
}

// The levels of iq4, and the middles between a level and the one before.
static const float iq4_values[16]  = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
static const float iq4_middles[16] = { 0, -115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101 };

// iq4_value is the value of the table nearest to v, the higher one in the middle.
static inline vf iq4_value(vf v) {
    vf q = all(iq4_values[0]);
#pragma GCC unroll 16
    for (int k = 1; k < 16; k++) {
        q = pick(v < all(iq4_middles[k]), q, all(iq4_values[k]));
    }
    return q;
}

static inline vi iq4_index(vf v) {
    vi q = alli(0);
#pragma GCC unroll 16
    for (int k = 1; k < 16; k++) {
        q = picki(v < all(iq4_middles[k]), q, alli(k));
    }
    return q;
}

// iq4_scale searches the scale of blocks of 32.
static inline vf iq4_scale(const vf * x, const vf * w) {
    vf amax = all(0), max = all(0);
    for (int i = 0; i < block32; i++) {
        const vf a    = magnitude(x[i]);
        const vi more = a > amax;
        amax          = pick(more, a, amax);
        max           = pick(more, x[i], max);
    }
    vf d = all(0), best = all(0);
    for (int step = -8; step <= 7; step++) { // -8 is the first try
        const vf inv = step == -8 ? all(1) / (-max / all(iq4_values[0])) : all(step + iq4_values[0]) / max;
        vf       sumqx = all(0), sumq2 = all(0);
        for (int i = 0; i < block32; i++) {
            const vf q  = iq4_value(inv * x[i]);
            const vf wq = w[i] * q;
            sumqx       = sumqx + wq * x[i];
            sumq2       = sumq2 + wq * q;
        }
        const vi some   = sumq2 > all(0);
        const vi better = step == -8 ? some : (vi) (some & (sumqx * sumqx > best * sumq2));
        d               = pick(better, sumqx / sumq2, d);
        best            = step == -8 ? d * sumqx : pick(better, d * sumqx, best);
    }
    return pick(amax < all(tiny_group), all(0), d);
}

// encode_iq4 encodes iq4_nl (block_size 32) and iq4_xs (256).
static void encode_iq4(bool xs, const float * x, uint8_t * y, int64_t n, int64_t n_per_row, const float * importance) {
    const int per = xs ? 8 : 1, size = xs ? 136 : 18;
    for (int64_t first = 0; first < n / block32; first += LANES * 8) { // whole super-blocks
        const int64_t count = n / block32 - first < LANES * 8 ? n / block32 - first : LANES * 8;
        const float * xb    = x + first * block32;
        uint8_t *     yb    = y + first / per * size;
        float         sigma2[LANES * 8 + LANES], scales[LANES * 8 + LANES];
        if (importance != nullptr) {
            sums_of_squares(xb, per * block32, count / per, sigma2);
            for (int64_t i = 0; i < count / per; i++) {
                sigma2[i] *= 2.f / (per * block32);
            }
        }
        for (int64_t b = 0; b < count; b += LANES) {
            const int64_t here = count - b < LANES ? count - b : LANES;
            vf            v[block32], q[block32], w[block32], s = all(0);
            columns(v, xb + b * block32, block32, here, block32);
            if (importance != nullptr) {
                for (int j = 0; j < block32; j += LANES) {
                    for (int i = 0; i < LANES; i++) {
                        q[j + i] = load(importance + (first + b + (i < here ? i : here - 1)) * block32 % n_per_row + j);
                    }
                    transpose(q + j);
                }
                for (int i = 0; i < LANES; i++) {
                    s[i] = sigma2[(b + (i < here ? i : here - 1)) / per];
                }
            }
            weigh(importance != nullptr ? w_importance_root : w_square, v, w, block32, q, s);
            store(scales + b, iq4_scale(v, w));
        }
        for (int64_t b = 0; b < count; b += per) {
            const float * xi = xb + b * block32;
            uint8_t *     yi = yb + b / per * size;
            if (!finite_all(scales + b, per)) {
                const float * q = importance == nullptr ? nullptr : importance + (first + b) * block32 % n_per_row;
                ggml_quantize_chunk(xs ? GGML_TYPE_IQ4_XS : GGML_TYPE_IQ4_NL, xi, yi, 0, 1, per * block32, q);
                continue;
            }
            float inv[8];
            if (xs) {
                float       amount;
                const float d  = -strongest(scales + b, 8, &amount) / 32;
                const float id = inverse_of(d);
                int         high = 0;
                put_half(yi, d);
                memset(yi + 4, 0, 4);
                for (int j = 0; j < 8; j++) {
                    int l = nearest_one(id * scales[b + j]);
                    l     = l < 31 ? l : 31;
                    l     = l > -32 ? l : -32;
                    inv[j] = inverse_of(d * l);
                    yi[4 + j / 2] |= (uint8_t) ((l + 32) & 15) << 4 * (j % 2);
                    high |= (l + 32) >> 4 << 2 * j;
                }
                const uint16_t h = (uint16_t) high;
                memcpy(yi + 2, &h, 2);
            } else {
                put_half(yi, scales[b]);
                inv[0] = inverse_of(scales[b]);
            }
            for (int j = 0; j < per; j++) {
                vi l[parts32];
                for (int i = 0; i < parts32; i++) {
                    l[i] = iq4_index(all(inv[j]) * load(xi + j * block32 + i * LANES));
                }
                pack_low(yi + (xs ? 8 : 2) + 16 * j, l);
            }
        }
    }
}
