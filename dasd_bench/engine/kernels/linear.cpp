// Products of rows with weights that lie in panels: the weights of 32 outputs side by side, input after input. A tile of
// rows keeps its sums in registers over all inputs, so that a weight is read once per tile and, from memory, once per
// 512 rows; the panel that comes next is fetched meanwhile. In a gated panel 16 outputs of the gate stand before the
// same 16 of the other product, and what is stored is activation(gate) * other. No value depends on the number of
// threads or on the other rows: each sum is taken by one thread from first input to last.
#include <algorithm>
#include <type_traits>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "lanes.h"

#ifndef __AVX512F__
#error "the tiles are cut for 32 registers of 16 numbers"
#endif

namespace {

constexpr int WIDE = 2;
constexpr int PANEL = WIDE * LANES;
// 14 rows by 2 vectors of sums, 2 of weights and 1 of inputs: 31 registers.
constexpr int TILE = 14;
// Rows whose inputs stay in the second cache while the panels go by.
constexpr int64_t CHUNK = 512;

enum Activation { NONE, SWISH, GELU_TANH };

inline void swish(float* x) {
#pragma omp simd
    for (int i = 0; i < LANES; ++i) {
        const float small = exponential(-std::fabs(x[i]));
        x[i] *= (x[i] < 0.f ? small : 1.f) / (1.f + small);
    }
}

inline void gelu_tanh(float* x) {
#pragma omp simd
    for (int i = 0; i < LANES; ++i) {
        const float inner = 0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        const float small = exponential(-2.f * std::fabs(inner));
        // (1 + tanh(inner)) / 2
        x[i] *= (inner < 0.f ? small : 1.f) / (1.f + small);
    }
}

// How inputs meet weights: a float32 at a time.
struct Single {
    typedef float Number;
    static constexpr int INPUTS = 1;
    typedef Floats Part;
    static Part weights(const float* at) { return load(at); }
    static Part spread(const float* x) { return Floats{} + *x; }
    static void add(Floats& sum, Part x, Part w) { sum += x * w; }
};

#ifdef __AVX512BF16__
// Two bfloat16 at a time: their products are added to the sum in float32.
struct Pair {
    typedef uint16_t Number;
    static constexpr int INPUTS = 2;
    typedef __m512bh Part;
    static Part weights(const uint16_t* at) { return (__m512bh)_mm512_loadu_si512(at); }
    static Part spread(const uint16_t* x) {
        int32_t both;
        std::memcpy(&both, x, sizeof both);
        return (__m512bh)_mm512_set1_epi32(both);
    }
    static void add(Floats& sum, Part x, Part w) { sum = (Floats)_mm512_dpbf16_ps((__m512)sum, x, w); }
};
#endif

template <typename Number>
struct Panel {
    const Number* weights;  // [in / INPUTS, PANEL, INPUTS]
    const Number* next;     // the panel to fetch meanwhile, or null
    const float* bias;      // [PANEL], or null
    int64_t in;
};

// Sums of ROWS rows from x on with the panel; out has outs numbers a row, of which room are this panel's.
template <typename Kind, int ROWS>
void tile(const typename Kind::Number* x, const Panel<typename Kind::Number>& panel, Activation activation,
          typename Kind::Number* out, int64_t outs, int64_t room) {
    typedef typename Kind::Number Number;
    constexpr int VECTOR = LANES * Kind::INPUTS;  // numbers in a register of weights
    Floats sum[ROWS][WIDE];
    for (int j = 0; j < WIDE; ++j) {
        const Floats start = panel.bias ? load(panel.bias + j * LANES) : Floats{};
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) sum[r][j] = start;
    }
    const auto run = [&](auto fetching) {
        for (int64_t k = 0; k < panel.in / Kind::INPUTS; ++k) {
            const int64_t at = k * WIDE * VECTOR;
            if constexpr (decltype(fetching)::value) {
#pragma GCC unroll 2
                for (int j = 0; j < WIDE; ++j) __builtin_prefetch(panel.next + at + j * VECTOR, 0, 2);
            }
            typename Kind::Part part[WIDE];
#pragma GCC unroll 2
            for (int j = 0; j < WIDE; ++j) part[j] = Kind::weights(panel.weights + at + j * VECTOR);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; ++r) {
                const typename Kind::Part value = Kind::spread(x + r * panel.in + k * Kind::INPUTS);
#pragma GCC unroll 2
                for (int j = 0; j < WIDE; ++j) Kind::add(sum[r][j], value, part[j]);
            }
        }
    };
    if (panel.next)
        run(std::true_type{});
    else
        run(std::false_type{});
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
        float both[PANEL];
        std::memcpy(both, sum[r], sizeof both);
        if (activation == SWISH) swish(both);
        if (activation == GELU_TANH) gelu_tanh(both);
        if (activation != NONE)
            for (int i = 0; i < LANES; ++i) both[i] *= both[LANES + i];
        Number narrowed[PANEL];
#pragma omp simd
        for (int i = 0; i < PANEL; ++i) narrow(both[i], narrowed + i);
        std::memcpy(out + r * outs, narrowed, room * sizeof(Number));
    }
}

template <typename Kind, typename Number = typename Kind::Number>
void tile_of(int64_t rows, const Number* x, const Panel<Number>& panel, Activation activation, Number* out,
             int64_t outs, int64_t room) {
    switch (rows) {
#define ROWS(n) \
    case n: return tile<Kind, n>(x, panel, activation, out, outs, room)
        ROWS(1); ROWS(2); ROWS(3); ROWS(4); ROWS(5); ROWS(6); ROWS(7);
        ROWS(8); ROWS(9); ROWS(10); ROWS(11); ROWS(12); ROWS(13); ROWS(14);
#undef ROWS
    }
}

inline int64_t pieces(int64_t whole, int64_t size) { return (whole + size - 1) / size; }

template <typename Kind, typename Number = typename Kind::Number>
void product(const Number* x, const Number* panels, const float* bias, Number* out, int64_t rows, int64_t in,
             int64_t outs, Activation activation, int threads) {
    const int64_t given = activation == NONE ? PANEL : LANES;
    const int64_t count = pieces(outs, given);
    // Chunks of one size, and with few panels more of them, so that every thread has as much to do.
    const int64_t least = std::max(pieces(rows, CHUNK), pieces(2 * threads, count));
    const int64_t chunk = std::max<int64_t>(pieces(rows, least), TILE);
    const int64_t chunks = pieces(rows, chunk);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (int64_t c = 0; c < chunks; ++c)
        for (int64_t p = 0; p < count; ++p) {
            const int64_t start = c * chunk;
            const int64_t size = rows - start < chunk ? rows - start : chunk;
            const int64_t tiles = pieces(size, TILE);
            const int64_t room = outs - p * given < given ? outs - p * given : given;
            Panel<Number> panel{panels + p * in * PANEL, p + 1 < count ? panels + (p + 1) * in * PANEL : nullptr,
                                bias ? bias + p * PANEL : nullptr, in};
            for (int64_t t = 0; t < tiles; ++t) {
                const int64_t first = start + size * t / tiles, last = start + size * (t + 1) / tiles;
                tile_of<Kind>(last - first, x + first * in, panel, activation, out + first * outs + p * given, outs,
                              room);
                panel.next = nullptr;
            }
        }
}

}  // namespace

// out [rows, outs] of x [rows, in] and panels [ceil(outs / given), in / pair, PANEL, pair]: given is PANEL outputs, or
// LANES with an activation (1 swish, 2 gelu by tanh); pair is 1 in float32, 2 in bfloat16. bias float32 [panels, PANEL]
// or null. Gives 0 where this machine has no product of bfloat16.
extern "C" int64_t dasd_linear(int64_t is_bf16, const void* x, const void* panels, const float* bias, void* out,
                               int64_t rows, int64_t in, int64_t outs, int64_t activation, int64_t threads) {
    const auto how = static_cast<Activation>(activation);
    if (!is_bf16) {
        product<Single>(static_cast<const float*>(x), static_cast<const float*>(panels), bias,
                        static_cast<float*>(out), rows, in, outs, how, static_cast<int>(threads));
        return 1;
    }
#ifdef __AVX512BF16__
    product<Pair>(static_cast<const uint16_t*>(x), static_cast<const uint16_t*>(panels), bias,
                  static_cast<uint16_t*>(out), rows, in, outs, how, static_cast<int>(threads));
    return 1;
#else
    return 0;
#endif
}
