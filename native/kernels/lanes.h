// Vectors of LANES floats, on the compiler's vector extension. kernels.h includes this file and those after it
// once for every instruction set, each time in another namespace and with another LANES.
//
// Every operation rounds by itself (no fused multiply-add), and float to integer truncates, as the plain C of
// ggml-quants.c does with one number at a time.

typedef float   vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint8_t vb __attribute__((vector_size(LANES)));
typedef int16_t vh __attribute__((vector_size(2 * LANES)));

static inline vf load(const float * p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float * p, vf v) { memcpy(p, &v, sizeof v); }
static inline void store(int32_t * p, vi v) { memcpy(p, &v, sizeof v); }

static inline vf all(float x) {
#if LANES == 16
    return (vf) _mm512_set1_ps(x);
#elif LANES == 8
    return (vf) _mm256_set1_ps(x);
#else
    return vf{ x, x, x, x };
#endif
}

static inline vi alli(int32_t x) {
#if LANES == 16
    return (vi) _mm512_set1_epi32(x);
#elif LANES == 8
    return (vi) _mm256_set1_epi32(x);
#else
    return vi{ x, x, x, x };
#endif
}

static inline vi bits(vf v) {
    vi r;
    memcpy(&r, &v, sizeof r);
    return r;
}

static inline vf from_bits(vi v) {
    vf r;
    memcpy(&r, &v, sizeof r);
    return r;
}

static inline vf pick(vi mask, vf a, vf b) { return mask ? a : b; }
static inline vi picki(vi mask, vi a, vi b) { return mask ? a : b; }

static inline vf magnitude(vf v) { return from_bits(bits(v) & 0x7fffffff); }
static inline vf to_float(vi v) { return __builtin_convertvector(v, vf); }
static inline vi truncated(vf v) { return __builtin_convertvector(v, vi); }

// nearest rounds to the nearest integer, ties to even, for magnitudes below 2^22: the sum with 1.5·2^23 has
// the integer in its mantissa.
static inline vi nearest(vf v) { return (bits(v + all(12582912.f)) & 0x007fffff) - 0x00400000; }

// nearest_one is nearest for one number.
static inline int nearest_one(float x) {
    const float v = x + 12582912.f;
    int32_t     i;
    memcpy(&i, &v, sizeof i);
    return (i & 0x007fffff) - 0x00400000;
}

static inline vf square_root(vf v) {
#if LANES == 16
    return (vf) _mm512_sqrt_ps((__m512) v);
#elif LANES == 8
    return (vf) _mm256_sqrt_ps((__m256) v);
#else
    for (int i = 0; i < LANES; i++) {
        v[i] = __builtin_sqrtf(v[i]);
    }
    return v;
#endif
}

// any tells whether a comparison holds in any lane.
static inline bool any(vi mask) {
#if LANES == 16
    return _mm512_test_epi32_mask((__m512i) mask, (__m512i) mask) != 0;
#elif LANES == 8
    return _mm256_movemask_ps((__m256) mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

// larger is a where a > b, else b.
static inline vf larger(vf a, vf b) {
#if LANES == 16
    return (vf) _mm512_max_ps((__m512) a, (__m512) b);
#elif LANES == 8
    return (vf) _mm256_max_ps((__m256) a, (__m256) b);
#else
    return pick(a > b, a, b);
#endif
}

// smaller is a where a < b, else b.
static inline vf smaller(vf a, vf b) {
#if LANES == 16
    return (vf) _mm512_min_ps((__m512) a, (__m512) b);
#elif LANES == 8
    return (vf) _mm256_min_ps((__m256) a, (__m256) b);
#else
    return pick(a < b, a, b);
#endif
}

static inline vi bottom(vi v, int high) {
    const vi h = alli(high);
#if LANES == 16
    return (vi) _mm512_min_epi32((__m512i) v, (__m512i) h);
#elif LANES == 8
    return (vi) _mm256_min_epi32((__m256i) v, (__m256i) h);
#else
    return picki(v < h, v, h);
#endif
}

static inline vi clamp(vi v, int low, int high) {
    const vi l = alli(low);
    v          = bottom(v, high);
#if LANES == 16
    return (vi) _mm512_max_epi32((__m512i) v, (__m512i) l);
#elif LANES == 8
    return (vi) _mm256_max_epi32((__m256i) v, (__m256i) l);
#else
    return picki(v > l, v, l);
#endif
}

// level is the nearest integer from low to high, as a number. It is what clamp(nearest(v)) gives for magnitudes below
// 2^22; beyond them it is not.
static inline vf level(vf v, float low, float high) {
    const vf magic = all(12582912.f);
    return larger(smaller(v + magic - magic, all(high)), all(low));
}

// crossed exchanges lanes whose numbers differ in the bit BY.
template <int BY, int... I> static inline vf crossed(vf v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I ^ BY)...);
}
template <int BY> static inline vf crossed(vf v) { return crossed<BY>(v, std::make_integer_sequence<int, LANES>()); }
template <int BY> static inline vi crossedi(vi v) { return bits(crossed<BY>(from_bits(v))); }

// interleave does one step of a transposition: of vectors a and b, which are BY apart, one gets the lanes without the
// bit BY, the other those with it.
template <int BY, int... I> static inline void interleave(vf & a, vf & b, std::integer_sequence<int, I...>) {
    const vf c = a, d = b;
    a = __builtin_shufflevector(c, d, (I & BY ? LANES + (I ^ BY) : I)...);
    b = __builtin_shufflevector(c, d, (I & BY ? LANES + I : I ^ BY)...);
}

template <int BY> static inline void interleave(vf * v) {
    for (int i = 0; i < LANES; i++) {
        if (!(i & BY)) {
            interleave<BY>(v[i], v[i | BY], std::make_integer_sequence<int, LANES>());
        }
    }
}

// transpose turns LANES vectors into their transpose: what was lane j of vector i becomes lane i of vector j.
static inline void transpose(vf * v) {
    interleave<1>(v);
    interleave<2>(v);
#if LANES > 4
    interleave<4>(v);
#endif
#if LANES > 8
    interleave<8>(v);
#endif
}

template <int BY> static inline void fold(vf * v) {
    for (int i = 0; i < LANES; i += 2 * BY) {
        interleave<BY>(v[i], v[i + BY], std::make_integer_sequence<int, LANES>());
        v[i] = larger(v[i], v[i + BY]);
    }
}

// largest_of_each gives the largest lane of each of LANES vectors, which it uses up. No lane is a NaN.
static inline vf largest_of_each(vf * v) {
    fold<1>(v);
    fold<2>(v);
#if LANES > 4
    fold<4>(v);
#endif
#if LANES > 8
    fold<8>(v);
#endif
    return v[0];
}

// columns loads n floats (a multiple of LANES) of each of LANES streams, which begin step floats apart; stream
// i is lane i. Streams from count on repeat the last one, so that nothing beyond is read.
static inline void columns(vf * out, const float * x, int64_t step, int64_t count, int n) {
    for (int j = 0; j < n; j += LANES) {
        for (int i = 0; i < LANES; i++) {
            out[j + i] = load(x + (i < count ? i : count - 1) * step + j);
        }
        transpose(out + j);
    }
}
