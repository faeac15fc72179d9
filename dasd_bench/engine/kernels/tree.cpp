// Attention of token trees: every token sees itself and its ancestors, which lie in runs of neighbouring tokens of the
// pass or in a prefix computed before. A few tokens of one run are computed together, so that a block of keys is read
// once for them; what nobody sees is not computed. Nothing depends on the number of threads or on other trees.
#include <vector>

#include "attention.h"

namespace {

// Where keys and values of one source lie: [heads, tokens, D] by strides in numbers.
struct Source {
    const void* keys;
    const void* values;
    int64_t token_stride, head_stride;
};

// Tokens first to last of a source, the first at a position of the sequence.
struct Span {
    int64_t source, first, last, position;
};

// Neighbouring tokens of one run, the first at a position; they see spans from first_span to last_span. The last of
// these is their own run: each token sees it up to itself.
struct Chunk {
    int64_t token, count, position, first_span, last_span;
};

constexpr int TOGETHER = 16;

#ifdef __clang__
#define EXCHANGE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define EXCHANGE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// Sixteen rows of sixteen become sixteen columns: blocks of 8 change places, then of 4, of 2, of 1.
inline void transpose(Floats* x) {
#define SWAP(S, ...)                                                                                                  \
    for (int i = 0; i < LANES; ++i)                                                                                   \
        if (!(i & S)) {                                                                                               \
            const Floats a = x[i], b = x[i + S];                                                                      \
            __VA_ARGS__                                                                                               \
        }
    SWAP(8, x[i] = EXCHANGE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
         x[i + 8] = EXCHANGE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);)
    SWAP(4, x[i] = EXCHANGE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
         x[i + 4] = EXCHANGE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);)
    SWAP(2, x[i] = EXCHANGE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
         x[i + 2] = EXCHANGE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);)
    SWAP(1, x[i] = EXCHANGE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
         x[i + 1] = EXCHANGE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);)
#undef SWAP
}

// A block of at most BLOCK keys, sixteen side by side per number of the head, with their values; in float32.
template <int D>
struct Block {
    Floats keys[BLOCK / LANES][D];
    Floats values[BLOCK][D / LANES];
    int size;

    template <typename T>
    void read(const T* from_keys, const T* from_values, int64_t stride, int count) {
        size = count;
        for (int part = 0; part * LANES < count; ++part)
            for (int d = 0; d < D; d += LANES) {
                Floats tile[LANES];
                for (int t = 0; t < LANES; ++t) {
                    const int token = part * LANES + t;
                    tile[t] = load(from_keys + (token < count ? token : 0) * stride + d);
                }
                transpose(tile);
                std::memcpy(keys[part] + d, tile, sizeof tile);
            }
        for (int t = 0; t < count; ++t)
            for (int p = 0; p < D / LANES; ++p) values[t][p] = load(from_values + t * stride + p * LANES);
    }
};

// Keys low to high of a block into the state of the queries q [REP, D].
template <int D, int REP>
inline void absorb(const float* q, const Block<D>& block, int low, int high, float softcap, State<D, REP>& state) {
    constexpr int PARTS = D / LANES;
    alignas(64) float score[REP][BLOCK];
    if (high > LANES) {
        Floats dot[REP][2] = {};
        for (int d = 0; d < D; ++d)
#pragma GCC unroll 4
            for (int r = 0; r < REP; ++r) {
                dot[r][0] += q[r * D + d] * block.keys[0][d];
                dot[r][1] += q[r * D + d] * block.keys[1][d];
            }
        std::memcpy(score, dot, sizeof dot);
    } else {
        Floats dot[REP] = {};
        for (int d = 0; d < D; ++d)
#pragma GCC unroll 4
            for (int r = 0; r < REP; ++r) dot[r] += q[r * D + d] * block.keys[0][d];
        for (int r = 0; r < REP; ++r) std::memcpy(score[r], dot + r, sizeof(Floats));
    }
    weigh(score, low, high, softcap, state);
    Floats sum[REP][PARTS];
    std::memcpy(sum, state.sum, sizeof sum);
    for (int t = low; t < high; ++t)
#pragma GCC unroll 16
        for (int p = 0; p < PARTS; ++p)
#pragma GCC unroll 4
            for (int r = 0; r < REP; ++r) sum[r][p] += score[r][t] * block.values[t][p];
    std::memcpy(state.sum, sum, sizeof sum);
}

template <typename T, int D, int REP>
void attend(const float* q, const Chunk& chunk, const Source* sources, const Span* spans, int64_t group,
            int64_t window, float softcap, State<D, REP>* states) {
    Block<D> block;
    for (int64_t i = 0; i < chunk.count; ++i) states[i].clear();
    for (int64_t number = chunk.first_span; number < chunk.last_span; ++number) {
        const Span& span = spans[number];
        const Source& source = sources[span.source];
        const T* keys = static_cast<const T*>(source.keys) + group * source.head_stride;
        const T* values = static_cast<const T*>(source.values) + group * source.head_stride;
        // Positions count along the ancestors, so one comparison does for the past and for the window: the first token
        // of the chunk sees what lies before `own`, the next one token more.
        const int64_t own = span.first + chunk.position + 1 - span.position;
        const int64_t furthest = own + chunk.count - 1;
        const int64_t last = furthest < span.last ? furthest : span.last;
        const int64_t first = window > 0 && own - window > span.first ? own - window : span.first;
        for (int64_t start = first; start < last; start += BLOCK) {
            const int64_t end = start + BLOCK < last ? start + BLOCK : last;
            block.read(keys + start * source.token_stride, values + start * source.token_stride, source.token_stride,
                       static_cast<int>(end - start));
            for (int64_t i = 0; i < chunk.count; ++i) {
                const int64_t high = own + i < end ? own + i : end;
                const int64_t near = own + i - window;
                const int64_t low = window > 0 && near > start ? near : start;
                if (low < high)
                    absorb<D, REP>(q + i * REP * D, block, static_cast<int>(low - start),
                                   static_cast<int>(high - start), softcap, states[i]);
            }
        }
    }
}

template <typename T, int D, int REP>
void compute(const T* query, int64_t token_stride, int64_t head_stride, const Chunk& chunk, const Source* sources,
             const Span* spans, int64_t group, int64_t head, int64_t heads, int64_t window, float scaling,
             float softcap, T* out) {
    alignas(64) float q[TOGETHER * REP * D];
    State<D, REP> states[TOGETHER];
    for (int64_t i = 0; i < chunk.count; ++i)
        for (int r = 0; r < REP; ++r) {
            const T* from = query + (chunk.token + i) * token_stride + (head + r) * head_stride;
            for (int d = 0; d < D; ++d) q[(i * REP + r) * D + d] = widen(from[d]) * scaling;
        }
    attend<T, D, REP>(q, chunk, sources, spans, group, window, softcap, states);
    float lse[REP];
    for (int64_t i = 0; i < chunk.count; ++i)
        finish<T, D, REP>(states[i], out + ((chunk.token + i) * heads + head) * D, lse);
}

template <typename T, int D>
void pass(const T* query, int64_t token_stride, int64_t head_stride, const Source* sources, const Span* spans,
          const Chunk* chunks, int64_t count, int64_t groups, int64_t rep, int64_t window, float scaling,
          float softcap, T* out, int threads) {
    const int64_t heads = groups * rep;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t part = 0; part < count * groups; ++part) {
        const Chunk& chunk = chunks[part / groups];
        const int64_t group = part % groups;
        int64_t head = group * rep;
        int64_t left = rep;
        while (left > 0) {
#define TAKE(R)                                                                                                       \
    compute<T, D, R>(query, token_stride, head_stride, chunk, sources, spans, group, head, heads, window, scaling,    \
                     softcap, out);                                                                                   \
    head += R;                                                                                                        \
    left -= R;
            if (left >= 4) { TAKE(4) }
            else if (left == 3) { TAKE(3) }
            else if (left == 2) { TAKE(2) }
            else { TAKE(1) }
#undef TAKE
        }
    }
}

}  // namespace

// query [N, H, D] by strides in numbers, D neighbouring; out [N, H, D] contiguous. Compiled for one head width, DIM.
extern "C" void dasd_tree_attention(int64_t is_bf16, const void* query, int64_t token_stride, int64_t head_stride,
                                    const Source* sources, const Span* spans, const Chunk* chunks, int64_t count,
                                    int64_t groups, int64_t rep, int64_t window, float scaling, float softcap,
                                    void* out, int64_t threads) {
#define PASS(T)                                                                                                       \
    pass<T, DIM>(static_cast<const T*>(query), token_stride, head_stride, sources, spans, chunks, count, groups, rep, \
                 window, scaling, softcap, static_cast<T*>(out), static_cast<int>(threads))
    if (is_bf16)
        PASS(uint16_t);
    else
        PASS(float);
#undef PASS
}
