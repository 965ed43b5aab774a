// The searches for the scale of a sub-block, one sub-block per lane: each lane does the operations of the
// function of the same purpose in ggml-quants.c, in its order, and so gets its numbers, bit for bit.
//
// Levels are not kept while searching: they follow from the reciprocal scale that was best.

static const float tiny_group = 1e-15f; // sub-blocks whose values are all smaller count as zero

// symmetric searches the scale of levels -top … top-1 (make_qx_quants). w holds the weights. *inverse gets the
// reciprocal scale from which the levels are made, nearest(inverse·x); lanes of zeros have scale 0 and no levels.
static inline vf symmetric(const vf * x, const vf * w, int n, int top, vf * inverse, vi * zeros) {
    vf amax = all(0), max = all(0);
    for (int i = 0; i < n; i++) {
        const vf a    = magnitude(x[i]);
        const vi more = a > amax;
        amax          = pick(more, a, amax);
        max           = pick(more, x[i], max);
    }
    *zeros   = amax < all(tiny_group);
    *inverse = all(0);
    vf scale = all(0), best = all(0);
    vf wx[32];
    for (int i = 0; i < n; i++) {
        wx[i] = w[i] * x[i];
    }
    for (int step = -10; step <= 9; step++) { // -10 stands for the first try, without an offset
        if (step == 0) {
            continue;
        }
        const vf inv = all(step == -10 ? -(float) top : -(top + 0.1f * step)) / max;
        vf       sumlx = all(0), suml2 = all(0);
        for (int i = 0; i < n; i++) {
            const vf l = level(inv * x[i], -top, top - 1); // at most 1.3·top, or x is not finite, and then nor is the scale
            sumlx      = sumlx + wx[i] * l;
            suml2      = suml2 + w[i] * l * l;
        }
        if (step == -10) {
            scale    = pick(suml2 != all(0), sumlx / suml2, all(0));
            best     = scale * sumlx;
            *inverse = inv;
            continue;
        }
        const vi better = (suml2 > all(0)) & (sumlx * sumlx > best * suml2);
        scale           = pick(better, sumlx / suml2, scale);
        best            = pick(better, scale * sumlx, best);
        *inverse        = pick(better, inv, *inverse);
    }
    return pick(*zeros, all(0), scale);
}

// range is what searches with a minimum give: x ≈ scale·level - offset. Levels are nearest(inverse·(x - low)),
// all 0 in lanes that are flat.
struct range {
    vf scale, offset, inverse, low;
    vi flat;
};

// with_minimum searches scale and minimum of levels 0 … top (make_qkx2_quants, make_qkx3_quants: they differ in
// when a sub-block is flat only).
static inline range with_minimum(const vf * x, const vf * w, int n, int top, float first, float delta, int steps, bool absolute, bool flat_if_less) {
    vf min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = 1; i < n; i++) {
        min   = pick(x[i] < min, x[i], min);
        max   = pick(x[i] > max, x[i], max);
        sum_w = sum_w + w[i];
        sum_x = sum_x + w[i] * x[i];
    }
    min = pick(min > all(0), all(0), min);
    range r;
    r.flat    = flat_if_less ? (vi) (max <= min) : (vi) (max == min);
    r.low     = min;
    r.inverse = all((float) top) / (max - min);
    r.scale   = all(1) / r.inverse;
    vf error  = all(0);
    for (int i = 0; i < n; i++) {
        const vf l    = level(r.inverse * (x[i] - min), 0, top);
        vf       diff = r.scale * l + min - x[i];
        diff          = absolute ? magnitude(diff) : diff * diff;
        error         = error + w[i] * diff;
    }
    const vf flat_low = min;
    vi       wild     = alli(0);
    vf       l[32];
    for (int step = 0; step <= steps; step++) {
        const vf inv   = all(first + delta * step + top) / (max - min);
        vf       sum_l = all(0), sum_l2 = all(0), sum_xl = all(0);
        for (int i = 0; i < n; i++) {
            l[i]        = level(inv * (x[i] - min), 0, top);
            const vf wl = w[i] * l[i];
            sum_l       = sum_l + wl;
            sum_l2      = sum_l2 + wl * l[i];
            sum_xl      = sum_xl + wl * x[i];
        }
        const vf det      = sum_w * sum_l2 - sum_l * sum_l;
        vf       scale    = (sum_w * sum_xl - sum_x * sum_l) / det;
        vf       low      = (sum_l2 * sum_x - sum_l * sum_xl) / det;
        const vi positive = low > all(0);
        if (any(positive)) {
            low   = pick(positive, all(0), low);
            scale = pick(positive, sum_xl / sum_l2, scale);
        }
        vf now = all(0);
        for (int i = 0; i < n; i++) {
            vf diff = scale * l[i] + low - x[i];
            diff    = absolute ? magnitude(diff) : diff * diff;
            now     = now + w[i] * diff;
        }
        const vi better = (det > all(0)) & (now < error);
        error           = pick(better, now, error);
        r.scale         = pick(better, scale, r.scale);
        r.low           = pick(better, min, r.low);
        r.inverse       = pick(better, inv, r.inverse);
        min             = pick(better, low, min); // the next step starts from here
        wild            = wild | ~((max - min) * all(32768) > magnitude(min - flat_low)) | ~(max - min > all(FLT_MIN));
    }
    r.scale  = pick(wild, all(NAN), r.scale); // levels beyond 2^22 may have occurred: ggml has the word
    r.scale  = pick(r.flat, all(0), r.scale);
    r.offset = -pick(r.flat, flat_low, min);
    return r;
}

// reciprocal is 1 / v, wrong by at most reciprocal_error of it; a NaN or infinite where v is very small or large.
#if LANES == 16
static const float reciprocal_error = 1.f / (1 << 13); // 2^-14, by the instruction's definition
static inline vf reciprocal(vf v) { return (vf) _mm512_rcp14_ps((__m512) v); }
#elif LANES == 8
static const float reciprocal_error = 1.f / (1 << 11); // 1.5·2^-12
static inline vf reciprocal(vf v) { return (vf) _mm256_rcp_ps((__m256) v); }
#endif

// level_of_quotient is clamp(nearest(a / b), -top, top - 1) in the lanes of mask, for top up to 4. Where the quotient
// is too near to the middle of two levels for an estimate to tell, it divides.
static inline vf level_of_quotient(vf a, vf b, vi mask, int top) {
#if LANES >= 8
    const vf quotient = a * reciprocal(b);
    const vf whole    = quotient + all(12582912.f) - all(12582912.f);
    const vi sure     = magnitude(quotient - whole) < all(0.5f - 5 * reciprocal_error); // outside -5 … 5 both are clamped
    if (!any(mask & ~sure)) {
        return larger(smaller(whole, all((float) (top - 1))), all((float) -top));
    }
#endif
    return to_float(clamp(nearest(a / b), -top, top - 1));
}

// refinement searches levels -top … top-1 by changing one at a time (make_q3_quants with its second stage). What a
// level adds to the sums is kept beside it. Every step waits for the one before it, so several searches are done in turns.
struct refinement {
    vf l[16], w[16], wx[16], in_lx[16], in_l2[16];
    vf sumlx, suml2, squared;
    vi changed, zeros;

    // begin takes the levels of the largest magnitude's scale.
    void begin(const vf * x, int top) {
        vf amax = all(0), max = all(0);
        for (int i = 0; i < 16; i++) {
            const vf a    = magnitude(x[i]);
            const vi more = a > amax;
            amax          = pick(more, a, amax);
            max           = pick(more, x[i], max);
        }
        zeros        = amax < all(tiny_group);
        const vf inv = all(-(float) top) / max;
        sumlx = suml2 = all(0);
        for (int i = 0; i < 16; i++) {
            l[i]     = to_float(clamp(nearest(inv * x[i]), -top, top - 1));
            w[i]     = x[i] * x[i];
            wx[i]    = w[i] * x[i];
            in_lx[i] = wx[i] * l[i];
            in_l2[i] = w[i] * l[i] * l[i];
            sumlx    = sumlx + in_lx[i];
            suml2    = suml2 + in_l2[i];
        }
        squared = sumlx * sumlx;
    }

    // step tries another level for number i.
    void step(const vf * x, int i, int top) {
        vf       slx    = sumlx - in_lx[i];
        vf       sl2    = suml2 - in_l2[i];
        const vi useful = slx > all(0);
        const vf other  = level_of_quotient(x[i] * sl2, slx, useful, top);
        const vf lx     = wx[i] * other;
        const vf l2     = w[i] * other * other;
        slx             = slx + lx;
        sl2             = sl2 + l2;
        const vf now    = slx * slx;
        const vi better = useful & (other != l[i]) & (sl2 > all(0)) & (now * suml2 > squared * sl2);
        l[i]            = pick(better, other, l[i]);
        in_lx[i]        = pick(better, lx, in_lx[i]);
        in_l2[i]        = pick(better, l2, in_l2[i]);
        sumlx           = pick(better, slx, sumlx);
        suml2           = pick(better, sl2, suml2);
        squared         = pick(better, now, squared);
        changed         = changed | better;
    }

    vf scale() const { return pick(zeros | ~(suml2 > all(0)), all(0), sumlx / suml2); }
};

// at_once is how many searches are done in turns. Each keeps what it changed: in one variable for all, AVX2 is a tenth slower.
static const int at_once = LANES == 16 ? 4 : 2;

// refined gives the scales of at_once times LANES sub-blocks of 16 numbers.
static inline void refined(const vf (*x)[16], int top, float * scales) {
    refinement all_of[at_once];
    for (int k = 0; k < at_once; k++) {
        all_of[k].begin(x[k], top);
    }
    for (int round = 0; round < 5; round++) {
        for (int k = 0; k < at_once; k++) {
            all_of[k].changed = alli(0);
        }
        for (int i = 0; i < 16; i++) {
#pragma GCC unroll 4
            for (int k = 0; k < at_once; k++) {
                all_of[k].step(x[k], i, top);
            }
        }
        vi changed = alli(0);
        for (int k = 0; k < at_once; k++) {
            changed |= all_of[k].changed;
        }
        if (!any(changed)) { // a round more changes nothing where a round changed nothing
            break;
        }
    }
    for (int k = 0; k < at_once; k++) {
        store(scales + k * LANES, all_of[k].scale());
    }
}

// positive searches the scale of levels 0 … top of numbers that are not negative, with weights, and the levels
// (make_qp_quants). It is for the scales of the sub-blocks of a super-block: one super-block per lane.
static inline vf positive(const vf * x, const vf * w, int n, int top, vi * levels) {
    vf max = all(0);
    for (int i = 0; i < n; i++) {
        max = pick(max > x[i], max, x[i]);
    }
    const vi zeros = max < all(tiny_group);
    vf       inv   = all((float) top) / max;
    vf       scale = all(1) / inv;
    vf       best  = all(0);
    for (int i = 0; i < n; i++) {
        const vf l    = to_float(nearest(inv * x[i]) & 0xff);
        const vf diff = x[i] - scale * l;
        best          = best + w[i] * diff * diff;
    }
    for (int step = -4; step <= 4; step++) {
        if (step == 0) {
            continue;
        }
        const vf inverse = all(0.1f * step + top) / max;
        const vf s       = all(1) / inverse;
        vf       error   = all(0);
        for (int i = 0; i < n; i++) {
            const vf l    = to_float(bottom(nearest(inverse * x[i]), top));
            const vf diff = x[i] - s * l;
            error         = error + w[i] * diff * diff;
        }
        const vi better = error < best;
        best            = pick(better, error, best);
        inv             = pick(better, inverse, inv);
    }
    vf sumlx = all(0), suml2 = all(0);
    vf l[16];
    for (int i = 0; i < n; i++) {
        const vi level  = bottom(nearest(inv * x[i]), top);
        const vf exact  = to_float(level);
        l[i]            = to_float(level & 0xff);
        sumlx           = sumlx + w[i] * x[i] * exact;
        suml2           = suml2 + w[i] * exact * exact;
    }
    for (int round = 0; round < 5; round++) {
        vi changed = alli(0);
        for (int i = 0; i < n; i++) {
            vf       slx    = sumlx - w[i] * x[i] * l[i];
            vf       sl2    = suml2 - w[i] * l[i] * l[i];
            const vi useful = (slx > all(0)) & (sl2 > all(0));
            const vf other  = to_float(bottom(nearest(x[i] * sl2 / slx), top));
            slx             = slx + w[i] * x[i] * other;
            sl2             = sl2 + w[i] * other * other;
            const vi better = useful & (other != l[i]) & (slx * slx * suml2 > sumlx * sumlx * sl2);
            l[i]            = pick(better, to_float(truncated(other) & 0xff), l[i]);
            sumlx           = pick(better, slx, sumlx);
            suml2           = pick(better, sl2, suml2);
            changed         = changed | better;
        }
        if (!any(changed)) {
            break;
        }
    }
    for (int i = 0; i < n; i++) {
        levels[i] = picki(zeros, alli(0), truncated(l[i]));
    }
    return pick(zeros | ~(suml2 > all(0)), all(0), sumlx / suml2);
}
