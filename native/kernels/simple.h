// Blocks of 32 with a scale (and a minimum) of their own, without importances: vectors run along the block
// (quantize_row_q4_0_ref and its like).

static const int block32 = 32;
static const int parts32 = block32 / LANES; // vectors of a block

static inline void load_block(const float * x, vf * v) {
    for (int i = 0; i < parts32; i++) {
        v[i] = load(x + i * LANES);
    }
}

// encode_bf16 rounds to the nearest, ties to even; a NaN keeps its upper bits and becomes quiet.
static void encode_bf16(const float * x, uint8_t * y, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vi b     = bits(load(x + i));
        const vi nan   = (b & 0x7fffffff) > alli(0x7f800000);
        const vi round = (b + 0x7fff + (b >> 16 & 1)) >> 16;
        const vh h     = __builtin_convertvector(picki(nan, b >> 16 | 64, round), vh);
        memcpy(y + 2 * i, &h, sizeof h);
    }
    ggml_fp32_to_bf16_row_ref(x + i, reinterpret_cast<ggml_bf16_t *>(y + 2 * i), n - i);
}

// signed_largest finds the value of the largest magnitude of each of count blocks, the first if there are two, 0 if there
// is none. NaNs do not count.
static inline vf signed_largest(const float * x, int64_t count) {
    vf up[LANES], down[LANES];
    for (int b = 0; b < LANES; b++) {
        vf v[parts32];
        load_block(x + (b < count ? b : 0) * block32, v);
        up[b] = down[b] = all(0);
        for (int i = 0; i < parts32; i++) {
            up[b]   = larger(v[i], up[b]);
            down[b] = larger(-v[i], down[b]);
        }
    }
    const vf p = largest_of_each(up), q = largest_of_each(down);
    vf       r = pick(p > q, p, -q);
    const vi same = p == q;
    if (any(same)) {
        for (int b = 0; b < LANES; b++) {
            if (same[b]) {
                const float * v = x + (b < count ? b : 0) * block32;
                while (p[b] > 0 && *v != p[b] && *v != -p[b]) {
                    v++;
                }
                r[b] = p[b] > 0 ? *v : 0;
            }
        }
    }
    return r;
}

// extent finds the smallest and the largest value of each block.
static inline void extent(const float * x, int64_t count, vf * min, vf * max) {
    vf low[LANES], high[LANES];
    for (int b = 0; b < LANES; b++) {
        vf v[parts32];
        load_block(x + (b < count ? b : 0) * block32, v);
        low[b]  = all(-FLT_MAX); // of what is turned round
        high[b] = all(-FLT_MAX);
        for (int i = 0; i < parts32; i++) {
            low[b]  = larger(-v[i], low[b]);
            high[b] = larger(v[i], high[b]);
        }
    }
    *min = -largest_of_each(low);
    *max = largest_of_each(high);
    const vi zero = (*min == all(0)) | (*max == all(0));
    if (any(zero)) { // the sign of a zero is that of the first one
        for (int b = 0; b < LANES; b++) {
            if (zero[b]) {
                const float * v = x + (b < count ? b : 0) * block32;
                float         l = FLT_MAX, h = -FLT_MAX;
                for (int i = 0; i < block32; i++) {
                    l = v[i] < l ? v[i] : l;
                    h = v[i] > h ? v[i] : h;
                }
                (*min)[b] = l;
                (*max)[b] = h;
            }
        }
    }
}

static inline float inverse_of(float d) { return d != 0 ? 1.0f / d : 0.0f; }

static inline vf inverses_of(vf d) { return pick(d != all(0), all(1) / d, all(0)); }

// pack_low writes the lower halves of 32 levels, the first 16 in the lower bits of 16 bytes.
static inline void pack_low(uint8_t * qs, const vi * l) {
    for (int i = 0; i < parts32 / 2; i++) {
        const vb b = __builtin_convertvector((l[i] & 15) | (l[i + parts32 / 2] & 15) << 4, vb);
        memcpy(qs + i * LANES, &b, LANES);
    }
}

// pack_high writes the fifth bits of 32 levels, one bit each.
static inline void pack_high(uint8_t * qh, const vi * l) {
    uint32_t r = 0;
    for (int i = 0; i < parts32; i++) {
        vi b;
        for (int j = 0; j < LANES; j++) {
            b[j] = j;
        }
        b = (l[i] >> 4 & 1) << b;
        b |= crossedi<1>(b);
        b |= crossedi<2>(b);
#if LANES > 4
        b |= crossedi<4>(b);
#endif
#if LANES > 8
        b |= crossedi<8>(b);
#endif
        r |= (uint32_t) b[0] << (i * LANES);
    }
    memcpy(qh, &r, 4);
}

// The level of a value is its integer part, with top at most. On x86-64 what is not finite becomes -2^31, whose lower bits
// are 0, as ggml's cast to 8 bits gives; elsewhere such casts give what the compiler likes, and ggml has those blocks.
#if defined(__x86_64__)
static inline bool ordinary(const vf *) { return true; }
#else
static inline bool ordinary(const vf * v) {
    vi odd = alli(0);
    for (int i = 0; i < parts32; i++) {
        odd |= ~(magnitude(v[i]) <= all(127.4f)); // the largest may be rounded up a little
    }
    return !any(odd);
}
#endif

static void encode_by_ggml(ggml_type type, const float * x, uint8_t * y) {
    ggml_quantize_chunk(type, x, y, 0, 1, block32, nullptr);
}

static void encode_q4(const float * x, uint8_t * y, int64_t n, bool minimum) {
    const int size = minimum ? 20 : 18;
    for (int64_t left = n / block32; left > 0; left -= LANES, x += LANES * block32, y += LANES * size) {
        const int64_t count = left < LANES ? left : LANES;
        vf            low = all(0), high, d;
        if (minimum) {
            extent(x, count, &low, &high);
            d = (high - low) / all(15);
        } else {
            d = signed_largest(x, count) / all(-8);
        }
        float inverse[LANES], scale[LANES], min[LANES];
        store(inverse, inverses_of(d));
        store(scale, d);
        store(min, low);
        for (int64_t b = 0; b < count; b++) {
            uint8_t * out = y + b * size;
            vf        v[parts32];
            vi        l[parts32];
            load_block(x + b * block32, v);
            put_half(out, scale[b]);
            if (minimum) {
                put_half(out + 2, min[b]);
            }
            for (int i = 0; i < parts32; i++) {
                v[i] = minimum ? (v[i] - all(min[b])) * all(inverse[b]) + all(0.5f) : v[i] * all(inverse[b]) + all(8.5f);
                l[i] = bottom(truncated(v[i]), 15);
            }
            if (!ordinary(v)) {
                encode_by_ggml(minimum ? GGML_TYPE_Q4_1 : GGML_TYPE_Q4_0, x + b * block32, out);
                continue;
            }
            for (int i = 0; i < parts32 / 2; i++) {
                const vb p = __builtin_convertvector(l[i] | l[i + parts32 / 2] << 4, vb);
                memcpy(out + size - 16 + i * LANES, &p, LANES);
            }
        }
    }
}

static void encode_q5(const float * x, uint8_t * y, int64_t n, bool minimum) {
    const int size = minimum ? 24 : 22;
    for (int64_t left = n / block32; left > 0; left -= LANES, x += LANES * block32, y += LANES * size) {
        const int64_t count = left < LANES ? left : LANES;
        vf            low = all(0), high, d;
        if (minimum) {
            extent(x, count, &low, &high);
            d = (high - low) / all(31);
        } else {
            d = signed_largest(x, count) / all(-16);
        }
        float inverse[LANES], scale[LANES], min[LANES];
        store(inverse, inverses_of(d));
        store(scale, d);
        store(min, low);
        for (int64_t b = 0; b < count; b++) {
            uint8_t * out = y + b * size;
            vf        v[parts32];
            vi        l[parts32];
            load_block(x + b * block32, v);
            put_half(out, scale[b]);
            if (minimum) {
                put_half(out + 2, min[b]);
            }
            for (int i = 0; i < parts32; i++) {
                v[i] = minimum ? (v[i] - all(min[b])) * all(inverse[b]) + all(0.5f) : v[i] * all(inverse[b]) + all(16.5f);
                l[i] = minimum ? truncated(v[i]) : bottom(truncated(v[i]), 31);
            }
            if (!ordinary(v)) {
                encode_by_ggml(minimum ? GGML_TYPE_Q5_1 : GGML_TYPE_Q5_0, x + b * block32, out);
                continue;
            }
            pack_high(out + size - 20, l);
            pack_low(out + size - 16, l);
        }
    }
}

static void encode_q8_0(const float * x, uint8_t * y, int64_t n) {
    for (int64_t left = n / block32; left > 0; left -= LANES, x += LANES * block32, y += LANES * 34) {
        const int64_t count = left < LANES ? left : LANES;
        vf            top[LANES];
        vi            odd[LANES];
        for (int b = 0; b < LANES; b++) {
            vf v[parts32];
            load_block(x + (b < count ? b : 0) * block32, v);
            top[b] = all(0);
            odd[b] = alli(0);
            for (int i = 0; i < parts32; i++) {
                const vf a = magnitude(v[i]);
                odd[b] |= ~(a <= all(FLT_MAX));
                top[b] = larger(top[b], a);
            }
        }
        const vf d = largest_of_each(top) / all(127);
        float    inverse[LANES], scale[LANES];
        store(inverse, inverses_of(d));
        store(scale, d);
        for (int64_t b = 0; b < count; b++) {
            uint8_t * out = y + b * 34;
            vf        v[parts32];
            if (any(odd[b])) { // what counts beside a NaN depends on the order of the values
                encode_by_ggml(GGML_TYPE_Q8_0, x + b * block32, out);
                continue;
            }
            load_block(x + b * block32, v);
            for (int i = 0; i < parts32; i++) {
                v[i] = v[i] * all(inverse[b]);
            }
            if (!ordinary(v)) {
                encode_by_ggml(GGML_TYPE_Q8_0, x + b * block32, out);
                continue;
            }
            put_half(out, scale[b]);
            for (int i = 0; i < parts32; i++) {
                const vf s    = v[i]; // rounded with halves away from zero
                const vf t    = to_float(truncated(s));
                const vi half = magnitude(s - t) >= all(0.5f);
                const vf one  = from_bits((bits(s) & (int32_t) 0x80000000) | bits(all(1)));
                const vb p    = __builtin_convertvector(truncated(t + from_bits(half & bits(one))), vb);
                memcpy(out + 2 + i * LANES, &p, LANES);
            }
        }
    }
}
