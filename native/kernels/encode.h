// encode encodes nrows rows of n values, and tells whether it has the type.
static bool encode(ggml_type type, const float * x, uint8_t * y, int64_t nrows, int64_t n, const float * importance) {
    const bool    q     = importance != nullptr;
    const int64_t count = nrows * n;
    if (q && !finite_all(importance, (int) n)) {
        return false;
    }
    const weighting root = w_importance_root;
    switch (type) {
        case GGML_TYPE_BF16:
            encode_bf16(x, y, count);
            return true;
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_1:
        case GGML_TYPE_Q5_0:
        case GGML_TYPE_Q5_1:
            if (q) {
                encode_weighted(type, x, y, nrows, n, importance);
                return true;
            }
            if (type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_1) {
                encode_q4(x, y, count, type == GGML_TYPE_Q4_1);
            } else {
                encode_q5(x, y, count, type == GGML_TYPE_Q5_1);
            }
            return true;
        case GGML_TYPE_Q8_0:
            encode_q8_0(x, y, count);
            return true;
        case GGML_TYPE_Q2_K:
            encode_super(q ? kind{ type, 84, 16, 3, root, -0.9f, 0.05f, 36, false } : kind{ type, 84, 16, 3, w_magnitude, -0.5f, 0.1f, 15, true }, x, y, count, n, importance);
            return true;
        case GGML_TYPE_Q3_K:
            encode_super(kind{ type, 110, 16, 4, q ? root : w_square, 0, 0, 0, false }, x, y, count, n, importance);
            return true;
        case GGML_TYPE_Q4_K:
            encode_super(q ? kind{ type, 144, 32, 15, root, -0.9f, 0.05f, 36, false } : kind{ type, 144, 32, 15, w_mean_and_magnitude, -1.f, 0.1f, 20, false }, x, y, count, n, importance);
            return true;
        case GGML_TYPE_Q5_K:
            encode_super(q ? kind{ type, 176, 32, 31, root, -0.9f, 0.05f, 36, false } : kind{ type, 176, 32, 31, w_mean_and_magnitude, -0.5f, 0.1f, 15, false }, x, y, count, n, importance);
            return true;
        case GGML_TYPE_Q6_K:
            encode_super(kind{ type, 210, 16, 32, q ? w_importance : w_square, 0, 0, 0, false }, x, y, count, n, importance);
            return true;
        case GGML_TYPE_IQ4_NL:
        case GGML_TYPE_IQ4_XS:
            encode_iq4(type == GGML_TYPE_IQ4_XS, x, y, count, n, importance);
            return true;
        default:
            return false;
    }
}
