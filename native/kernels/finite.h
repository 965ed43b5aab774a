// Whether numbers are finite, by their exponents: plain numbers of 16 or 32 bits.

typedef uint16_t v16 __attribute__((vector_size(4 * LANES)));

// finite tells whether no number has all the bits of its exponent set. type is F16, BF16 or F32.
static bool finite(ggml_type type, const uint8_t * p, size_t n) {
    const bool     wide     = type == GGML_TYPE_F32;
    const uint16_t exponent = type == GGML_TYPE_F16 ? 0x7c00 : 0x7f80;
    size_t         i        = 0;
    if (wide) {
        vi bad = alli(0);
        for (; i + 4 * LANES <= n; i += 4 * LANES) {
            vi v;
            memcpy(&v, p + i, sizeof v);
            bad |= (v & 0x7f800000) == 0x7f800000;
        }
        if (any(bad)) {
            return false;
        }
    } else {
        v16 bad = {};
        for (; i + 4 * LANES <= n; i += 4 * LANES) {
            v16 v;
            memcpy(&v, p + i, sizeof v);
            bad |= (v16) ((v & exponent) == exponent);
        }
        vi b;
        memcpy(&b, &bad, sizeof b);
        if (any(b != 0)) {
            return false;
        }
    }
    for (; i < n; i += wide ? 4 : 2) {
        uint16_t v;
        memcpy(&v, p + i + (wide ? 2 : 0), 2);
        if ((v & exponent) == exponent) {
            return false;
        }
    }
    return true;
}
