// Products of two matrices over their rows, of which one is thin: out[thin, wide] = sum over n of a[n, thin] b[n, wide].
// These are the gradients of LoRA's matrices. The libraries that torch calls reach a few per cent of the machine's speed
// on such shapes. The wide matrix is read once from memory; sums of 8 by 32 numbers stay in registers over 256 rows. Each
// number is summed by one thread from the first row to the last, so that it does not depend on the number of threads.
#include <algorithm>

#include "lanes.h"

namespace {

constexpr int WIDE = 2;
constexpr int PANEL = WIDE * LANES;
constexpr int TILE = 8;
// Rows whose part of the wide matrix stays in the first cache while all tiles of the thin one go by.
constexpr int64_t CHUNK = 256;
constexpr int64_t AHEAD = 12;

// Adds the sums of ROWS columns of a, from ``a`` on, with a panel of b to out [.., wide].
template <typename T, int ROWS>
void tile(const float* a, int64_t thin, const T* b, int64_t wide, int64_t count, float* out) {
    Floats sum[ROWS][WIDE] = {};
    for (int64_t n = 0; n < count; ++n) {
        const T* row = b + n * wide;
        __builtin_prefetch(row + AHEAD * wide, 0, 3);
        __builtin_prefetch(row + AHEAD * wide + LANES, 0, 3);
        Floats part[WIDE];
#pragma GCC unroll 2
        for (int j = 0; j < WIDE; ++j) part[j] = load(row + j * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const Floats value = Floats{} + a[n * thin + r];
#pragma GCC unroll 2
            for (int j = 0; j < WIDE; ++j) sum[r][j] += value * part[j];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 2
        for (int j = 0; j < WIDE; ++j) {
            float* at = out + r * wide + j * LANES;
            const Floats all = load(at) + sum[r][j];
            std::memcpy(at, &all, sizeof all);
        }
}

// The columns that are left where the width is no multiple of a panel.
template <typename T>
void rest(const float* a, int64_t thin, const T* b, int64_t wide, int64_t count, int64_t columns, float* out) {
    for (int64_t n = 0; n < count; ++n)
        for (int64_t r = 0; r < thin; ++r)
            for (int64_t i = 0; i < columns; ++i) out[r * wide + i] += a[n * thin + r] * widen(b[n * wide + i]);
}

template <typename T>
void tile_of(int64_t width, const float* a, int64_t thin, const T* b, int64_t wide, int64_t count, float* out) {
    switch (width) {
#define TILE_OF(n) \
    case n: return tile<T, n>(a, thin, b, wide, count, out)
        TILE_OF(1); TILE_OF(2); TILE_OF(3); TILE_OF(4); TILE_OF(5); TILE_OF(6); TILE_OF(7); TILE_OF(8);
#undef TILE_OF
    }
}

template <typename T>
void product(const float* a, const T* b, float* out, int64_t rows, int64_t thin, int64_t wide, int threads) {
    const int64_t panels = (wide + PANEL - 1) / PANEL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < panels; ++p) {
        const int64_t left = std::min<int64_t>(PANEL, wide - p * PANEL);
        for (int64_t r = 0; r < thin; ++r) std::fill_n(out + r * wide + p * PANEL, left, 0.f);
        for (int64_t start = 0; start < rows; start += CHUNK) {
            const int64_t count = std::min(CHUNK, rows - start);
            const T* from = b + start * wide + p * PANEL;
            const float* with = a + start * thin;
            if (left < PANEL)
                rest(with, thin, from, wide, count, left, out + p * PANEL);
            else
                for (int64_t first = 0; first < thin; first += TILE)
                    tile_of(std::min<int64_t>(TILE, thin - first), with + first, thin, from, wide, count,
                            out + first * wide + p * PANEL);
        }
    }
}

}  // namespace

// a float32 [rows, thin], b [rows, wide] float32 or bfloat16, out float32 [thin, wide].
extern "C" void dasd_thin(int64_t is_bf16, const float* a, const void* b, float* out, int64_t rows, int64_t thin,
                          int64_t wide, int64_t threads) {
    if (is_bf16)
        product(a, static_cast<const uint16_t*>(b), out, rows, thin, wide, static_cast<int>(threads));
    else
        product(a, static_cast<const float*>(b), out, rows, thin, wide, static_cast<int>(threads));
}
