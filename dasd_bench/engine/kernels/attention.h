// The running state of attention that takes its keys a block at a time.
#pragma once
#include "lanes.h"

namespace {

constexpr int BLOCK = 32;

// REP queries of one key-value head: the largest score so far, the sum of exponentials, the weighted sum of values.
template <int D, int REP>
struct State {
    float peak[REP], total[REP];
    Floats sum[REP][D / LANES];

    void clear() {
        for (int r = 0; r < REP; ++r) {
            peak[r] = -INFINITY;
            total[r] = 0.f;
            for (int p = 0; p < D / LANES; ++p) sum[r][p] = Floats{};
        }
    }
};

// Makes room for scores up to top: what was summed so far is worth less.
template <int D, int REP>
inline void raise(State<D, REP>& state, int r, float top) {
    if (!(top > state.peak[r])) return;
    const float shrink = std::exp(state.peak[r] - top);
    state.total[r] *= shrink;
    for (int p = 0; p < D / LANES; ++p) state.sum[r][p] *= shrink;
    state.peak[r] = top;
}

// Turns the scores of keys low to high of a block into weights, and takes their sum into the state.
template <int D, int REP>
inline void weigh(float (&score)[REP][BLOCK], int low, int high, float softcap, State<D, REP>& state) {
    for (int r = 0; r < REP; ++r) {
        if (softcap > 0.f)
            for (int t = low; t < high; ++t) score[r][t] = std::tanh(score[r][t] / softcap) * softcap;
        float top = state.peak[r];
        for (int t = low; t < high; ++t) top = score[r][t] > top ? score[r][t] : top;
        raise(state, r, top);
        float add = 0.f;
#pragma omp simd reduction(+ : add)
        for (int t = low; t < high; ++t) {
            const float weight = exponential(score[r][t] - state.peak[r]);
            score[r][t] = weight;
            add += weight;
        }
        state.total[r] += add;
    }
}

// The attention output [REP, D] and its log-sum-exp [REP].
template <typename T, int D, int REP>
inline void finish(const State<D, REP>& state, T* out, float* lse) {
    for (int r = 0; r < REP; ++r) {
        const float scale = 1.f / state.total[r];
        for (int d = 0; d < D; ++d) narrow(state.sum[r][d / LANES][d % LANES] * scale, out + r * D + d);
        lse[r] = state.peak[r] + std::log(state.total[r]);
    }
}

}  // namespace
