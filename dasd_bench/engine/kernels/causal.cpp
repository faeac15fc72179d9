// Causal attention inside the rows of a pack, and its gradient, in float32 for training. All of it is one product,
// C[m, n] += sum over k of A[m, k] B[k, n], with numbers of A spread over vectors of B's columns. Scores of a block of
// queries with all their keys stay in the second cache, so that softmax is taken once and exactly. Grouped queries add to
// the gradients of the keys and values they share. A row's group of heads is one thread's work from start to end: no
// number depends on the threads.
#include <algorithm>
#include <vector>

#include "lanes.h"

namespace {

typedef int64_t Whole;

constexpr int TALL = 6;
constexpr int WIDE = 4;
constexpr Whole PANEL = WIDE * LANES;
constexpr Whole QUERIES = 36;

// Tokens of one head: number d of token t is at[t * step + d].
struct Head {
    float* at;
    Whole step;
};

template <int R, int W>
void tile(const float* a, Whole row, Whole inner, Whole count, const float* b, Whole below, float* c, Whole down) {
    Floats sum[R][W];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < W; ++j) sum[r][j] = load(c + r * down + j * LANES);
    for (Whole k = 0; k < count; ++k) {
        Floats part[W];
#pragma GCC unroll 4
        for (int j = 0; j < W; ++j) part[j] = load(b + k * below + j * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Floats value = Floats{} + a[r * row + k * inner];
#pragma GCC unroll 4
            for (int j = 0; j < W; ++j) sum[r][j] += value * part[j];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < W; ++j) std::memcpy(c + r * down + j * LANES, &sum[r][j], sizeof(Floats));
}

template <int W>
void tiles(const float* a, Whole row, Whole inner, Whole rows, Whole count, const float* b, Whole below, float* c,
           Whole down) {
    for (Whole m = 0; m < rows; m += TALL) {
        const float* from = a + m * row;
        float* to = c + m * down;
        switch (std::min<Whole>(TALL, rows - m)) {
#define TILE(n) \
    case n: tile<n, W>(from, row, inner, count, b, below, to, down); break
            TILE(1); TILE(2); TILE(3); TILE(4); TILE(5); TILE(6);
#undef TILE
        }
    }
}

// Adds A B to c; A is [rows, count] with its numbers ``row`` and ``inner`` apart, columns a multiple of LANES.
void add_product(const float* a, Whole row, Whole inner, Whole rows, Whole count, const float* b, Whole below,
                 Whole columns, float* c, Whole down) {
    Whole n = 0;
    for (; n + PANEL <= columns; n += PANEL) tiles<WIDE>(a, row, inner, rows, count, b + n, below, c + n, down);
    for (; n < columns; n += LANES) tiles<1>(a, row, inner, rows, count, b + n, below, c + n, down);
}

struct Pack {
    const Whole* starts;  // [rows + 1]: where each row begins
    Whole rows, heads, groups, dim, window;
    float scaling;
};

// What one thread works with: keys and values of a row turned, scores and their gradients of a block of queries.
struct Desk {
    std::vector<float> keys, values, score, slope;
    Whole width = 0;

    void lay(Whole length, Whole dim, bool backward) {
        width = (length + LANES - 1) / LANES * LANES;
        keys.assign(dim * width, 0.f);
        score.resize(QUERIES * width);
        if (backward) {
            values.assign(dim * width, 0.f);
            slope.resize(QUERIES * width);
        }
    }
};

void turn(const Head& head, Whole length, Whole dim, Whole width, float* out) {
    for (Whole t = 0; t < length; ++t)
        for (Whole d = 0; d < dim; ++d) out[d * width + t] = head.at[t * head.step + d];
}

Head shifted(const Head& head, Whole tokens) { return {head.at + tokens * head.step, head.step}; }

// The keys that queries first to last see: from ``from`` on, up to the query itself; in steps of LANES.
struct Seen {
    Whole from, columns;
    Seen(const Pack& pack, Whole first, Whole last) {
        from = pack.window > 0 ? std::max<Whole>(0, first + 1 - pack.window) / LANES * LANES : 0;
        columns = (last - from + LANES - 1) / LANES * LANES;
    }
};

void scores_of(const Pack& pack, const Head& queries, Whole first, Whole last, const Seen& seen, Desk& desk) {
    const Whole width = desk.width;
    for (Whole q = 0; q < last - first; ++q) std::fill_n(desk.score.data() + q * width, seen.columns, 0.f);
    add_product(queries.at + first * queries.step, queries.step, 1, last - first, pack.dim, desk.keys.data() + seen.from,
                width, seen.columns, desk.score.data(), width);
}

void forward(const Pack& pack, const Head& queries, const Head& values, const Head& out, float* lse, Whole length,
             Desk& desk) {
    const Whole width = desk.width;
    for (Whole first = 0; first < length; first += QUERIES) {
        const Whole last = std::min(first + QUERIES, length);
        const Seen seen(pack, first, last);
        scores_of(pack, queries, first, last, seen, desk);
        for (Whole q = first; q < last; ++q) {
            float* s = desk.score.data() + (q - first) * width;
            const Whole low = (pack.window > 0 ? std::max<Whole>(0, q + 1 - pack.window) : 0) - seen.from;
            const Whole high = q + 1 - seen.from;
            float peak = s[low];
#pragma omp simd reduction(max : peak)
            for (Whole i = low; i < high; ++i) peak = s[i] > peak ? s[i] : peak;
            float total = 0.f;
#pragma omp simd reduction(+ : total)
            for (Whole i = low; i < high; ++i) {
                s[i] = exponential((s[i] - peak) * pack.scaling);
                total += s[i];
            }
            const float share = 1.f / total;
#pragma omp simd
            for (Whole i = low; i < high; ++i) s[i] *= share;
            std::fill(s, s + low, 0.f);
            std::fill(s + high, s + seen.columns, 0.f);
            lse[q] = peak * pack.scaling + std::log(total);
            std::fill_n(out.at + q * out.step, pack.dim, 0.f);
        }
        add_product(desk.score.data(), width, 1, last - first, last - seen.from, values.at + seen.from * values.step,
                    values.step, pack.dim, out.at + first * out.step, out.step);
    }
}

void backward(const Pack& pack, const Head& queries, const Head& keys, const Head& out, const Head& grad,
              const float* lse, const Head& of_queries, const Head& of_keys, const Head& of_values, Whole length,
              Desk& desk) {
    const Whole width = desk.width;
    for (Whole first = 0; first < length; first += QUERIES) {
        const Whole last = std::min(first + QUERIES, length), count = last - first;
        const Seen seen(pack, first, last);
        scores_of(pack, queries, first, last, seen, desk);
        for (Whole q = 0; q < count; ++q) std::fill_n(desk.slope.data() + q * width, seen.columns, 0.f);
        add_product(grad.at + first * grad.step, grad.step, 1, count, pack.dim, desk.values.data() + seen.from, width,
                    seen.columns, desk.slope.data(), width);
        for (Whole q = first; q < last; ++q) {
            float* p = desk.score.data() + (q - first) * width;
            float* s = desk.slope.data() + (q - first) * width;
            const float *o = out.at + q * out.step, *g = grad.at + q * grad.step;
            float mean = 0.f;
#pragma omp simd reduction(+ : mean)
            for (Whole d = 0; d < pack.dim; ++d) mean += o[d] * g[d];
            const Whole low = (pack.window > 0 ? std::max<Whole>(0, q + 1 - pack.window) : 0) - seen.from;
            const Whole high = q + 1 - seen.from;
#pragma omp simd
            for (Whole i = low; i < high; ++i) {
                const float below = p[i] * pack.scaling - lse[q];
                p[i] = exponential(below > 0.f ? 0.f : below);
                s[i] = p[i] * (s[i] - mean) * pack.scaling;
            }
            std::fill(p, p + low, 0.f);
            std::fill(s, s + low, 0.f);
            std::fill(p + high, p + seen.columns, 0.f);
            std::fill(s + high, s + seen.columns, 0.f);
            std::fill_n(of_queries.at + q * of_queries.step, pack.dim, 0.f);
        }
        const Whole tokens = last - seen.from;
        const Head k = shifted(keys, seen.from), to_k = shifted(of_keys, seen.from), to_v = shifted(of_values, seen.from);
        add_product(desk.slope.data(), width, 1, count, tokens, k.at, k.step, pack.dim,
                    of_queries.at + first * of_queries.step, of_queries.step);
        add_product(desk.slope.data(), 1, width, tokens, count, queries.at + first * queries.step, queries.step, pack.dim,
                    to_k.at, to_k.step);
        add_product(desk.score.data(), 1, width, tokens, count, grad.at + first * grad.step, grad.step, pack.dim, to_v.at,
                    to_v.step);
    }
}

}  // namespace

// Tensors are [tokens, heads or groups, dim], contiguous; lse is [heads, tokens]. Where grad is null the attention is
// computed into out and lse, else its gradient into of_queries, of_keys and of_values. window 0: there is none.
extern "C" void dasd_causal(const float* queries, const float* keys, const float* values, float* out, float* lse,
                            const float* grad, float* of_queries, float* of_keys, float* of_values, const Whole* starts,
                            Whole rows, Whole heads, Whole groups, Whole dim, Whole window, float scaling,
                            Whole threads) {
    const Pack pack{starts, rows, heads, groups, dim, window, scaling};
    const Whole tokens = starts[rows], each = heads / groups;
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        Desk desk;
#pragma omp for schedule(dynamic, 1)
        for (Whole part = 0; part < rows * groups; ++part) {
            const Whole row = part / groups, group = part % groups, start = starts[row];
            const Whole length = starts[row + 1] - start;
            const auto head = [&](const float* all, Whole count, Whole number) {
                return Head{const_cast<float*>(all) + (start * count + number) * dim, count * dim};
            };
            const Head k = head(keys, groups, group), v = head(values, groups, group);
            desk.lay(length, dim, grad != nullptr);
            turn(k, length, dim, desk.width, desk.keys.data());
            Head to_k{}, to_v{};
            if (grad) {
                turn(v, length, dim, desk.width, desk.values.data());
                to_k = head(of_keys, groups, group), to_v = head(of_values, groups, group);
                for (Whole t = 0; t < length; ++t) {
                    std::fill_n(to_k.at + t * to_k.step, dim, 0.f);
                    std::fill_n(to_v.at + t * to_v.step, dim, 0.f);
                }
            }
            for (Whole number = group * each; number < (group + 1) * each; ++number) {
                const Head q = head(queries, heads, number), o = head(out, heads, number);
                float* l = lse + number * tokens + start;
                if (grad)
                    backward(pack, q, k, o, head(grad, heads, number), l, head(of_queries, heads, number), to_k, to_v,
                             length, desk);
                else
                    forward(pack, q, v, o, l, length, desk);
            }
        }
    }
}
