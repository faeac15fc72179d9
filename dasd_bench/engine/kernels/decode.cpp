// One decoding step of attention over rows of unlike length: stores the new key and value of each row, then attends
// to that row's keys only. Grouped queries share each key that is read. The rows of one item come one after the other,
// and what they have in common lies in the first of them: the others find it in the cache. Sums are fp32; no value
// depends on the number of threads, as each (row, key-value head) is computed by one thread from first key to last.
#include <type_traits>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "attention.h"

namespace {

// Tokens first to last of what lies at keys and values.
template <typename T>
struct Span {
    const T* keys;
    const T* values;
    int64_t first, last;
};

// How many numbers of a query meet a key's at once, and how: their products are added to sixteen sums.
template <typename Q, typename T>
struct Meeting {
    static constexpr int STEP = LANES;
    static Floats add(Floats sum, const float* q, const T* key) { return sum + load(q) * load(key); }
};

#ifdef __AVX512BF16__
template <>
struct Meeting<uint16_t, uint16_t> {
    static constexpr int STEP = 2 * LANES;
    static Floats add(Floats sum, const uint16_t* q, const uint16_t* key) {
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(q),
                                        (__m512bh)_mm512_loadu_si512(key));
    }
};
constexpr bool PAIRS = true;
#else
constexpr bool PAIRS = false;
#endif

// What queries are held as: bfloat16 stays as it is where the processor multiplies it.
template <typename T, int D>
using Held = std::conditional_t<PAIRS && sizeof(T) == 2 && D % (2 * LANES) == 0, T, float>;

// Takes size <= BLOCK more keys and values, stride numbers apart, into the state of the queries q [REP, D].
template <typename T, int D, int REP, typename Q>
inline void absorb(const Q* q, const T* keys, const T* values, int64_t stride, int size, float scaling, float softcap,
                   State<D, REP>& state) {
    constexpr int PARTS = D / LANES;
    using Meet = Meeting<Q, T>;
    alignas(64) float score[REP][BLOCK];
    Floats product[REP][LANES] = {};
    for (int some = 0; some < size; some += LANES) {
        const int end = size - some < LANES ? size - some : LANES;
        for (int t = 0; t < end; ++t) {
            const T* key = keys + (some + t) * stride;
            Floats dot[REP];
#pragma GCC unroll 4
            for (int r = 0; r < REP; ++r) dot[r] = Floats{};
#pragma GCC unroll 16
            for (int at = 0; at < D; at += Meet::STEP)
#pragma GCC unroll 4
                for (int r = 0; r < REP; ++r) dot[r] = Meet::add(dot[r], q + r * D + at, key + at);
#pragma GCC unroll 4
            for (int r = 0; r < REP; ++r) product[r][t] = dot[r];
        }
        for (int r = 0; r < REP; ++r) {
            const Floats dots = sums(product[r]) * scaling;
            std::memcpy(score[r] + some, &dots, sizeof dots);
        }
    }
    weigh(score, 0, size, softcap, state);
    Floats sum[REP][PARTS];
    std::memcpy(sum, state.sum, sizeof sum);
    for (int t = 0; t < size; ++t) {
        const T* value = values + t * stride;
#pragma GCC unroll 16
        for (int p = 0; p < PARTS; ++p) {
            const Floats part = load(value + p * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < REP; ++r) sum[r][p] += score[r][t] * part;
        }
    }
    std::memcpy(state.sum, sum, sizeof sum);
}

template <typename T, int D, int REP, typename Q>
void attend(const Q* q, const Span<T>* spans, int count, float scaling, float softcap, T* out, float* lse) {
    State<D, REP> state;
    state.clear();
    for (const Span<T>* span = spans; span < spans + count; ++span)
        for (int64_t start = span->first; start < span->last; start += BLOCK) {
            const int64_t left = span->last - start;
            absorb<T, D, REP>(q, span->keys + start * D, span->values + start * D, D,
                              static_cast<int>(left < BLOCK ? left : BLOCK), scaling, softcap, state);
        }
    finish<T, D, REP>(state, out, lse);
}

template <typename T, int D, typename Q>
void attend_some(int rep, const Q* q, const Span<T>* spans, int count, float scaling, float softcap, T* out,
                 float* lse) {
    while (rep > 0) {
        int taken;
        if (rep >= 4) { attend<T, D, 4>(q, spans, count, scaling, softcap, out, lse); taken = 4; }
        else if (rep == 3) { attend<T, D, 3>(q, spans, count, scaling, softcap, out, lse); taken = 3; }
        else if (rep == 2) { attend<T, D, 2>(q, spans, count, scaling, softcap, out, lse); taken = 2; }
        else { attend<T, D, 1>(q, spans, count, scaling, softcap, out, lse); taken = 1; }
        rep -= taken;
        q += taken * D;
        out += taken * D;
        lse += taken;
    }
}

template <typename T>
inline void hold(T x, T* out) { *out = x; }
inline void hold(uint16_t x, float* out) { *out = widen(x); }

template <typename T, int D>
void step(const T* query, const T* key, const T* value, T* keys, T* values, int64_t capacity, const int64_t* lengths,
          const int64_t* shared, int64_t rows, int64_t width, int64_t groups, int64_t rep, int64_t window,
          float scaling, float softcap, T* out, float* lse, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t part = 0; part < rows / width * groups; ++part) {
        const int64_t leader = part / groups * width;
        const int64_t group = part % groups;
        std::vector<Held<T, D>> q(rep * D);
        for (int64_t row = leader; row < leader + width; ++row) {
            const int64_t item = row * groups + group;
            const int64_t at = lengths[row];
            T* own_keys = keys + item * capacity * D;
            T* own_values = values + item * capacity * D;
            std::memcpy(own_keys + at * D, key + item * D, D * sizeof(T));
            std::memcpy(own_values + at * D, value + item * D, D * sizeof(T));
            const int64_t first = window > 0 && at + 1 > window ? at + 1 - window : 0;
            const int64_t common = shared[row];
            const int64_t lead = (leader * groups + group) * capacity * D;
            const Span<T> spans[2] = {{keys + lead, values + lead, first, common},
                                      {own_keys, own_values, first > common ? first : common, at + 1}};
            for (int64_t i = 0; i < rep * D; ++i) hold(query[item * rep * D + i], &q[i]);
            attend_some<T, D>(static_cast<int>(rep), q.data(), spans, 2, scaling, softcap, out + item * rep * D,
                              lse + item * rep);
        }
    }
}

}  // namespace

// Compiled for one head width, DIM.
extern "C" void dasd_decode_attention(int64_t is_bf16, const void* query, const void* key, const void* value,
                                      void* keys, void* values, int64_t capacity, const int64_t* lengths,
                                      const int64_t* shared, int64_t rows, int64_t width, int64_t groups, int64_t rep,
                                      int64_t window, float scaling, float softcap, void* out, float* lse,
                                      int64_t threads) {
#define STEP(T)                                                                                                       \
    step<T, DIM>(static_cast<const T*>(query), static_cast<const T*>(key), static_cast<const T*>(value),              \
                 static_cast<T*>(keys), static_cast<T*>(values), capacity, lengths, shared, rows, width, groups, rep, \
                 window, scaling, softcap, static_cast<T*>(out), lse, static_cast<int>(threads))
    if (is_bf16)
        STEP(uint16_t);
    else
        STEP(float);
#undef STEP
}
