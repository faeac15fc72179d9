// Products of rows with weights that lie in panels: the weights of 32 outputs side by side, input after input. A tile of
// rows keeps its sums in registers over all inputs, so that a weight is read once per tile and, from memory, once per
// 512 rows; the panel that comes next is fetched meanwhile. In a gated panel 16 outputs of the gate stand before the
// same 16 of the other product, and what is stored is activation(gate) * other. No value depends on the number of
// threads or on the other rows: each sum is taken by one thread from first input to last.
#include <algorithm>
#include <type_traits>

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

struct Panel {
    const float* weights;  // [in, PANEL]
    const float* next;     // the panel to fetch meanwhile, or null
    const float* bias;     // [PANEL], or null
    int64_t in;
};

// Sums of ROWS rows from x on with the panel; out has outs numbers a row, of which room are this panel's.
template <int ROWS>
void tile(const float* x, const Panel& panel, Activation activation, float* out, int64_t outs, int64_t room) {
    Floats sum[ROWS][WIDE];
    for (int j = 0; j < WIDE; ++j) {
        const Floats start = panel.bias ? load(panel.bias + j * LANES) : Floats{};
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) sum[r][j] = start;
    }
    const auto run = [&](auto fetching) {
        for (int64_t k = 0; k < panel.in; ++k) {
            const float* weights = panel.weights + k * PANEL;
            if constexpr (decltype(fetching)::value) {
                __builtin_prefetch(panel.next + k * PANEL, 0, 2);
                __builtin_prefetch(panel.next + k * PANEL + LANES, 0, 2);
            }
            Floats part[WIDE];
#pragma GCC unroll 2
            for (int j = 0; j < WIDE; ++j) part[j] = load(weights + j * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; ++r) {
                const float value = x[r * panel.in + k];
#pragma GCC unroll 2
                for (int j = 0; j < WIDE; ++j) sum[r][j] += value * part[j];
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
        std::memcpy(out + r * outs, both, room * sizeof(float));
    }
}

void tile_of(int64_t rows, const float* x, const Panel& panel, Activation activation, float* out, int64_t outs,
             int64_t room) {
    switch (rows) {
#define ROWS(n) \
    case n: return tile<n>(x, panel, activation, out, outs, room)
        ROWS(1); ROWS(2); ROWS(3); ROWS(4); ROWS(5); ROWS(6); ROWS(7);
        ROWS(8); ROWS(9); ROWS(10); ROWS(11); ROWS(12); ROWS(13); ROWS(14);
#undef ROWS
    }
}

inline int64_t pieces(int64_t whole, int64_t size) { return (whole + size - 1) / size; }

}  // namespace

// out [rows, outs] of x [rows, in] and panels [ceil(width / PANEL), in, PANEL], where a panel gives PANEL outputs, or
// LANES with an activation (1 swish, 2 gelu by tanh). bias [panels, PANEL] or null.
extern "C" void dasd_linear(const float* x, const float* panels, const float* bias, float* out, int64_t rows,
                            int64_t in, int64_t outs, int64_t activation, int64_t threads) {
    const int64_t given = activation == NONE ? PANEL : LANES;
    const int64_t count = pieces(outs, given);
    // Chunks of one size, and with few panels more of them, so that every thread has as much to do.
    const int64_t least = std::max(pieces(rows, CHUNK), pieces(2 * threads, count));
    const int64_t chunk = std::max<int64_t>(pieces(rows, least), TILE);
    const int64_t chunks = pieces(rows, chunk);
#pragma omp parallel for collapse(2) num_threads(static_cast<int>(threads)) schedule(static)
    for (int64_t c = 0; c < chunks; ++c)
        for (int64_t p = 0; p < count; ++p) {
            const int64_t start = c * chunk;
            const int64_t size = rows - start < chunk ? rows - start : chunk;
            const int64_t tiles = pieces(size, TILE);
            const int64_t room = outs - p * given < given ? outs - p * given : given;
            Panel panel{panels + p * in * PANEL, p + 1 < count ? panels + (p + 1) * in * PANEL : nullptr,
                        bias ? bias + p * PANEL : nullptr, in};
            for (int64_t t = 0; t < tiles; ++t) {
                const int64_t first = start + size * t / tiles, last = start + size * (t + 1) / tiles;
                tile_of(last - first, x + first * in, panel, static_cast<Activation>(activation),
                        out + first * outs + p * given, outs, room);
                panel.next = nullptr;
            }
        }
}
