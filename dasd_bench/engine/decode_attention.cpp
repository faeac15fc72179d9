// One decoding step of attention over rows of unlike length: stores the new key and value of each row, then attends
// to that row's keys only. Grouped queries share each key that is read. Sums are fp32; no value depends on the number
// of threads, as each (row, key-value head) is computed by one thread from the first key to the last.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

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

constexpr int BLOCK = 32;

template <typename T, int D, int REP>
void attend(const float* q, const T* keys, const T* values, int64_t first, int64_t last, float softcap, T* out,
            float* lse) {
    float peak[REP], total[REP];
    alignas(64) float sum[REP][D];
    for (int r = 0; r < REP; ++r) {
        peak[r] = -INFINITY;
        total[r] = 0.f;
        for (int d = 0; d < D; ++d) sum[r][d] = 0.f;
    }
    alignas(64) float score[REP][BLOCK];
    for (int64_t start = first; start < last; start += BLOCK) {
        const int size = static_cast<int>(last - start < BLOCK ? last - start : BLOCK);
        for (int t = 0; t < size; ++t) {
            const T* key = keys + (start + t) * D;
            float dot[REP];
            for (int r = 0; r < REP; ++r) {
                float s = 0.f;
#pragma omp simd reduction(+ : s)
                for (int d = 0; d < D; ++d) s += q[r * D + d] * widen(key[d]);
                dot[r] = s;
            }
            for (int r = 0; r < REP; ++r) score[r][t] = dot[r];
        }
        for (int r = 0; r < REP; ++r) {
            if (softcap > 0.f)
                for (int t = 0; t < size; ++t) score[r][t] = std::tanh(score[r][t] / softcap) * softcap;
            float top = peak[r];
            for (int t = 0; t < size; ++t) top = score[r][t] > top ? score[r][t] : top;
            if (top > peak[r]) {
                const float shrink = std::exp(peak[r] - top);
                total[r] *= shrink;
                for (int d = 0; d < D; ++d) sum[r][d] *= shrink;
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
            const T* value = values + (start + t) * D;
            for (int r = 0; r < REP; ++r) {
                const float weight = score[r][t];
#pragma omp simd
                for (int d = 0; d < D; ++d) sum[r][d] += weight * widen(value[d]);
            }
        }
    }
    for (int r = 0; r < REP; ++r) {
        const float scale = 1.f / total[r];
        for (int d = 0; d < D; ++d) narrow(sum[r][d] * scale, out + r * D + d);
        lse[r] = peak[r] + std::log(total[r]);
    }
}

template <typename T, int D>
void attend_some(int rep, const float* q, const T* keys, const T* values, int64_t first, int64_t last, float softcap,
                 T* out, float* lse) {
    while (rep > 0) {
        int taken;
        if (rep >= 4) { attend<T, D, 4>(q, keys, values, first, last, softcap, out, lse); taken = 4; }
        else if (rep == 3) { attend<T, D, 3>(q, keys, values, first, last, softcap, out, lse); taken = 3; }
        else if (rep == 2) { attend<T, D, 2>(q, keys, values, first, last, softcap, out, lse); taken = 2; }
        else { attend<T, D, 1>(q, keys, values, first, last, softcap, out, lse); taken = 1; }
        rep -= taken;
        q += taken * D;
        out += taken * D;
        lse += taken;
    }
}

template <typename T, int D>
void step(const T* query, const T* key, const T* value, T* keys, T* values, int64_t capacity, const int64_t* lengths,
          int64_t rows, int64_t groups, int64_t rep, int64_t window, float scaling, float softcap, T* out, float* lse,
          int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t item = 0; item < rows * groups; ++item) {
        const int64_t row = item / groups;
        const int64_t at = lengths[row];
        T* own_keys = keys + item * capacity * D;
        T* own_values = values + item * capacity * D;
        std::memcpy(own_keys + at * D, key + item * D, D * sizeof(T));
        std::memcpy(own_values + at * D, value + item * D, D * sizeof(T));
        const int64_t first = window > 0 && at + 1 > window ? at + 1 - window : 0;
        std::vector<float> q(rep * D);
        for (int64_t i = 0; i < rep * D; ++i) q[i] = widen(query[item * rep * D + i]) * scaling;
        attend_some<T, D>(static_cast<int>(rep), q.data(), own_keys, own_values, first, at + 1, softcap,
                          out + item * rep * D, lse + item * rep);
    }
}

template <typename T>
int choose(int64_t dim, const void* query, const void* key, const void* value, void* keys, void* values,
           int64_t capacity, const int64_t* lengths, int64_t rows, int64_t groups, int64_t rep, int64_t window,
           float scaling, float softcap, void* out, float* lse, int threads) {
#define CASE(D)                                                                                                      \
    case D:                                                                                                          \
        step<T, D>(static_cast<const T*>(query), static_cast<const T*>(key), static_cast<const T*>(value),           \
                   static_cast<T*>(keys), static_cast<T*>(values), capacity, lengths, rows, groups, rep, window,     \
                   scaling, softcap, static_cast<T*>(out), lse, threads);                                            \
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
                                     const int64_t* lengths, int64_t rows, int64_t groups, int64_t rep,
                                     int64_t window, float scaling, float softcap, void* out, float* lse,
                                     int64_t threads) {
    if (is_bf16)
        return choose<uint16_t>(dim, query, key, value, keys, values, capacity, lengths, rows, groups, rep, window,
                                scaling, softcap, out, lse, static_cast<int>(threads));
    return choose<float>(dim, query, key, value, keys, values, capacity, lengths, rows, groups, rep, window, scaling,
                         softcap, out, lse, static_cast<int>(threads));
}
