// One decoding step of attention over rows of unlike length: stores the new key and value of each row, then attends
// to that row's keys only. Grouped queries share each key that is read. The rows of one item come one after the other,
// and what they have in common lies in the first of them: the others find it in the cache. Sums are fp32; no value
// depends on the number of threads, as each (row, key-value head) is computed by one thread from first key to last.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// Sixteen numbers at a time: GCC's and Clang's vectors, which become whatever registers the machine has.
constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

inline Floats load(const float* at) {
    Floats x;
    std::memcpy(&x, at, sizeof x);
    return x;
}
inline Floats load(const uint16_t* at) {
    Halves halves;
    std::memcpy(&halves, at, sizeof halves);
    const Words words = __builtin_convertvector(halves, Words) << 16;
    Floats x;
    std::memcpy(&x, &words, sizeof x);
    return x;
}
inline float widen(float x) { return x; }
inline float widen(uint16_t x) {
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}
inline void narrow(float x, float* out) { *out = x; }
inline void narrow(float x, uint16_t* out) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    *out = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // to nearest, ties to even
}

// exp of x <= 0 to float rounding, by range reduction and a polynomial, so that the compiler can take 16 at a time.
// A NaN stays one: the comparison is false for it.
inline float exponential(float x) {
    x = x < -87.f ? -87.f : x;
    const float n = std::rint(x * 1.44269504f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return p * scale;
}

#ifdef __clang__
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// Lane i of the result is the sum of x[i]: halves are folded together, then quarters, and so on.
inline Floats sums(const Floats* x) {
    Floats y[8];
    for (int i = 0; i < 8; ++i)
        y[i] = PICK(x[i], x[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               PICK(x[i], x[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; ++i)
        y[i] = PICK(y[i], y[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               PICK(y[i], y[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int i = 0; i < 2; ++i)
        y[i] = PICK(y[i], y[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               PICK(y[i], y[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return PICK(y[0], y[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           PICK(y[0], y[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}

constexpr int BLOCK = 32;

// Tokens first to last of what lies at keys and values.
template <typename T>
struct Span {
    const T* keys;
    const T* values;
    int64_t first, last;
};

template <typename T, int D, int REP>
void attend(const float* q, const Span<T>* spans, int count, float softcap, T* out, float* lse) {
    float peak[REP], total[REP];
    constexpr int PARTS = D / LANES;
    Floats sum[REP][PARTS];
    for (int r = 0; r < REP; ++r) {
        peak[r] = -INFINITY;
        total[r] = 0.f;
        for (int p = 0; p < PARTS; ++p) sum[r][p] = Floats{};
    }
    alignas(64) float score[REP][BLOCK];
    Floats product[REP][LANES] = {};
    for (const Span<T>* span = spans; span < spans + count; ++span) {
        for (int64_t start = span->first; start < span->last; start += BLOCK) {
            const int64_t left = span->last - start;
            const int size = static_cast<int>(left < BLOCK ? left : BLOCK);
            for (int some = 0; some < size; some += LANES) {
                const int end = size - some < LANES ? size - some : LANES;
                for (int t = 0; t < end; ++t) {
                    const T* key = span->keys + (start + some + t) * D;
                    Floats dot[REP];
#pragma GCC unroll 4
                    for (int r = 0; r < REP; ++r) dot[r] = load(q + r * D) * load(key);
#pragma GCC unroll 16
                    for (int p = 1; p < PARTS; ++p) {
                        const Floats part = load(key + p * LANES);
#pragma GCC unroll 4
                        for (int r = 0; r < REP; ++r) dot[r] += load(q + r * D + p * LANES) * part;
                    }
#pragma GCC unroll 4
                    for (int r = 0; r < REP; ++r) product[r][t] = dot[r];
                }
                for (int r = 0; r < REP; ++r) {
                    const Floats dots = sums(product[r]);
                    std::memcpy(score[r] + some, &dots, sizeof dots);
                }
            }
            for (int r = 0; r < REP; ++r) {
                if (softcap > 0.f)
                    for (int t = 0; t < size; ++t) score[r][t] = std::tanh(score[r][t] / softcap) * softcap;
                float top = peak[r];
                for (int t = 0; t < size; ++t) top = score[r][t] > top ? score[r][t] : top;
                if (top > peak[r]) {
                    const float shrink = std::exp(peak[r] - top);
                    total[r] *= shrink;
                    for (int p = 0; p < PARTS; ++p) sum[r][p] *= shrink;
                    peak[r] = top;
                }
                float add = 0.f;
#pragma omp simd reduction(+ : add)
                for (int t = 0; t < size; ++t) {
                    const float weight = exponential(score[r][t] - top);
                    score[r][t] = weight;
                    add += weight;
                }
                total[r] += add;
            }
            for (int t = 0; t < size; ++t) {
                const T* value = span->values + (start + t) * D;
#pragma GCC unroll 16
                for (int p = 0; p < PARTS; ++p) {
                    const Floats part = load(value + p * LANES);
#pragma GCC unroll 4
                    for (int r = 0; r < REP; ++r) sum[r][p] += score[r][t] * part;
                }
            }
        }
    }
    for (int r = 0; r < REP; ++r) {
        const float scale = 1.f / total[r];
        for (int d = 0; d < D; ++d) narrow(sum[r][d / LANES][d % LANES] * scale, out + r * D + d);
        lse[r] = peak[r] + std::log(total[r]);
    }
}

template <typename T, int D>
void attend_some(int rep, const float* q, const Span<T>* spans, int count, float softcap, T* out, float* lse) {
    while (rep > 0) {
        int taken;
        if (rep >= 4) { attend<T, D, 4>(q, spans, count, softcap, out, lse); taken = 4; }
        else if (rep == 3) { attend<T, D, 3>(q, spans, count, softcap, out, lse); taken = 3; }
        else if (rep == 2) { attend<T, D, 2>(q, spans, count, softcap, out, lse); taken = 2; }
        else { attend<T, D, 1>(q, spans, count, softcap, out, lse); taken = 1; }
        rep -= taken;
        q += taken * D;
        out += taken * D;
        lse += taken;
    }
}

template <typename T, int D>
void step(const T* query, const T* key, const T* value, T* keys, T* values, int64_t capacity, const int64_t* lengths,
          const int64_t* shared, int64_t rows, int64_t width, int64_t groups, int64_t rep, int64_t window,
          float scaling, float softcap, T* out, float* lse, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t part = 0; part < rows / width * groups; ++part) {
        const int64_t leader = part / groups * width;
        const int64_t group = part % groups;
        std::vector<float> q(rep * D);
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
            for (int64_t i = 0; i < rep * D; ++i) q[i] = widen(query[item * rep * D + i]) * scaling;
            attend_some<T, D>(static_cast<int>(rep), q.data(), spans, 2, softcap, out + item * rep * D,
                              lse + item * rep);
        }
    }
}

template <typename T>
int choose(int64_t dim, const void* query, const void* key, const void* value, void* keys, void* values,
           int64_t capacity, const int64_t* lengths, const int64_t* shared, int64_t rows, int64_t width, int64_t groups,
           int64_t rep, int64_t window, float scaling, float softcap, void* out, float* lse, int threads) {
#define CASE(D)                                                                                                      \
    case D:                                                                                                          \
        step<T, D>(static_cast<const T*>(query), static_cast<const T*>(key), static_cast<const T*>(value),           \
                   static_cast<T*>(keys), static_cast<T*>(values), capacity, lengths, shared, rows, width, groups,   \
                   rep, window, scaling, softcap, static_cast<T*>(out), lse, threads);                               \
        return 0;
    switch (dim) {
        CASE(16) CASE(32) CASE(64) CASE(80) CASE(96) CASE(128) CASE(256)
    }
#undef CASE
    return 1;
}

}  // namespace

extern "C" int dasd_decode_attention(int64_t is_bf16, int64_t dim, const void* query, const void* key,
                                     const void* value, void* keys, void* values, int64_t capacity,
                                     const int64_t* lengths, const int64_t* shared, int64_t rows, int64_t width,
                                     int64_t groups, int64_t rep, int64_t window, float scaling, float softcap,
                                     void* out, float* lse, int64_t threads) {
    if (is_bf16)
        return choose<uint16_t>(dim, query, key, value, keys, values, capacity, lengths, shared, rows, width, groups,
                                rep, window, scaling, softcap, out, lse, static_cast<int>(threads));
    return choose<float>(dim, query, key, value, keys, values, capacity, lengths, shared, rows, width, groups, rep,
                         window, scaling, softcap, out, lse, static_cast<int>(threads));
}
