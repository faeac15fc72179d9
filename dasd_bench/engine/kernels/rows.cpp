// What the engine does to rows of numbers one by one, each in a single pass over memory: root-mean-square norms, rotary
// positions, the statistics of rows of logits. torch does them in five to ten passes, each of which writes an array as
// large as its input. Nothing depends on the number of threads: a row is computed by one, from first number to last.
#include "lanes.h"

namespace {

template <typename T>
inline float rounded(float x) {
    T narrowed;
    narrow(x, &narrowed);
    return widen(narrowed);
}

// Numbers summed in float before the sum goes on in double: the error stays that of a short sum.
constexpr int64_t PIECE = 1024;

template <typename T>
void norm(const T* in, const T* weight, T* out, int64_t rows, int64_t width, float eps, float plus, bool late,
          int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; ++row) {
        const T* x = in + row * width;
        T* y = out + row * width;
        float squares = 0.f;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < width; ++i) squares += widen(x[i]) * widen(x[i]);
        const float scale = 1.f / std::sqrt(squares / static_cast<float>(width) + eps);
        if (late) {
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) narrow(widen(x[i]) * scale * (plus + widen(weight[i])), y + i);
        } else {
#pragma omp simd
            for (int64_t i = 0; i < width; ++i)
                narrow(rounded<T>(widen(x[i]) * scale) * (plus + widen(weight[i])), y + i);
        }
    }
}

template <typename T>
void rotate(const T* in, const T* cosine, const T* sine, T* out, int64_t rows, int64_t heads, int64_t width,
            int threads) {
    const int64_t half = width / 2;
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; ++row) {
        const T* c = cosine + row * width;
        const T* s = sine + row * width;
        for (int64_t head = 0; head < heads; ++head) {
            const T* x = in + (row * heads + head) * width;
            T* y = out + (row * heads + head) * width;
#pragma omp simd
            for (int64_t i = 0; i < half; ++i) {
                const float low = widen(x[i]), high = widen(x[i + half]);
                narrow(rounded<T>(low * widen(c[i])) - rounded<T>(high * widen(s[i])), y + i);
                narrow(rounded<T>(high * widen(c[i + half])) + rounded<T>(low * widen(s[i + half])), y + i + half);
            }
        }
    }
}

// The gradient of a norm to its input; the sums are those of whole rows.
template <typename T>
void norm_backward(const T* in, const T* grad, const T* weight, T* out, int64_t rows, int64_t width, float eps,
                   float plus, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; ++row) {
        const T *x = in + row * width, *g = grad + row * width;
        T* y = out + row * width;
        float squares = 0.f, common = 0.f;
#pragma omp simd reduction(+ : squares, common)
        for (int64_t i = 0; i < width; ++i) {
            const float value = widen(x[i]);
            squares += value * value;
            common += value * widen(g[i]) * (plus + widen(weight[i]));
        }
        const float mean = squares / static_cast<float>(width) + eps;
        const float scale = 1.f / std::sqrt(mean);
        const float share = common / (mean * static_cast<float>(width));
#pragma omp simd
        for (int64_t i = 0; i < width; ++i)
            narrow(scale * (widen(g[i]) * (plus + widen(weight[i])) - share * widen(x[i])), y + i);
    }
}

constexpr int64_t STRETCH = 4096;

// swish(gate) * up, rounded after both steps.
template <typename T>
void gated(const T* gate, const T* up, T* out, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t start = 0; start < count; start += STRETCH) {
        const int64_t end = start + STRETCH < count ? start + STRETCH : count;
#pragma omp simd
        for (int64_t i = start; i < end; ++i) {
            const float x = widen(gate[i]), small = exponential(-std::fabs(x));
            const float share = (x < 0.f ? small : 1.f) / (1.f + small);
            narrow(rounded<T>(x * share) * widen(up[i]), out + i);
        }
    }
}

template <typename T>
void gated_backward(const T* gate, const T* up, const T* grad, T* of_gate, T* of_up, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t start = 0; start < count; start += STRETCH) {
        const int64_t end = start + STRETCH < count ? start + STRETCH : count;
#pragma omp simd
        for (int64_t i = start; i < end; ++i) {
            const float x = widen(gate[i]), g = widen(grad[i]), small = exponential(-std::fabs(x));
            const float share = (x < 0.f ? small : 1.f) / (1.f + small);
            narrow(g * x * share, of_up + i);
            narrow(g * widen(up[i]) * share * (1.f + x * (1.f - share)), of_gate + i);
        }
    }
}

}  // namespace

// The gradient [rows, width] of a root-mean-square norm to its input ``in``, from that of its output.
extern "C" void dasd_rms_norm_backward(int64_t is_bf16, const void* in, const void* grad, const void* weight, void* out,
                                       int64_t rows, int64_t width, float eps, float plus, int64_t threads) {
    if (is_bf16)
        norm_backward(static_cast<const uint16_t*>(in), static_cast<const uint16_t*>(grad),
                      static_cast<const uint16_t*>(weight), static_cast<uint16_t*>(out), rows, width, eps, plus,
                      static_cast<int>(threads));
    else
        norm_backward(static_cast<const float*>(in), static_cast<const float*>(grad), static_cast<const float*>(weight),
                      static_cast<float*>(out), rows, width, eps, plus, static_cast<int>(threads));
}

// swish(gate) * up of ``count`` numbers each; where grad is given, its gradients to both instead.
extern "C" void dasd_gated(int64_t is_bf16, const void* gate, const void* up, const void* grad, void* out, void* of_up,
                           int64_t count, int64_t threads) {
#define GATED(T)                                                                                                   \
    if (grad)                                                                                                      \
        gated_backward(static_cast<const T*>(gate), static_cast<const T*>(up), static_cast<const T*>(grad),        \
                       static_cast<T*>(out), static_cast<T*>(of_up), count, static_cast<int>(threads));            \
    else                                                                                                           \
        gated(static_cast<const T*>(gate), static_cast<const T*>(up), static_cast<T*>(out), count,                 \
              static_cast<int>(threads))
    if (is_bf16) {
        GATED(uint16_t);
    } else {
        GATED(float);
    }
#undef GATED
}

// Rotary positions for [rows, heads, width] with cosine and sine [rows, width]: element i turns with i + width / 2.
extern "C" void dasd_rotate(int64_t is_bf16, const void* in, const void* cosine, const void* sine, void* out,
                            int64_t rows, int64_t heads, int64_t width, int64_t threads) {
    if (is_bf16)
        rotate(static_cast<const uint16_t*>(in), static_cast<const uint16_t*>(cosine),
               static_cast<const uint16_t*>(sine), static_cast<uint16_t*>(out), rows, heads, width,
               static_cast<int>(threads));
    else
        rotate(static_cast<const float*>(in), static_cast<const float*>(cosine), static_cast<const float*>(sine),
               static_cast<float*>(out), rows, heads, width, static_cast<int>(threads));
}

// Rows [rows, width] divided by their root mean square, times (plus + weight). In bf16 the quotient is rounded before
// it is multiplied, unless late.
extern "C" void dasd_rms_norm(int64_t is_bf16, const void* in, const void* weight, void* out, int64_t rows,
                              int64_t width, float eps, float plus, int64_t late, int64_t threads) {
    if (is_bf16)
        norm(static_cast<const uint16_t*>(in), static_cast<const uint16_t*>(weight), static_cast<uint16_t*>(out), rows,
             width, eps, plus, late != 0, static_cast<int>(threads));
    else
        norm(static_cast<const float*>(in), static_cast<const float*>(weight), static_cast<float*>(out), rows, width,
             eps, plus, late != 0, static_cast<int>(threads));
}

// Of each row of logits [rows, width]: log-sum-exp, index of the first largest, entropy in nats. Where normalise is
// set the rows become log-probabilities in place. A row that holds a NaN or +inf has NaN for its log-sum-exp.
extern "C" void dasd_summarise(float* logits, int64_t rows, int64_t width, int64_t normalise, float* lse, int64_t* top,
                               float* entropy, int64_t threads) {
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(dynamic, 1)
    for (int64_t row = 0; row < rows; ++row) {
        float* x = logits + row * width;
        float peak = -INFINITY;
        int64_t at = 0;
        for (int64_t start = 0; start < width; start += PIECE) {
            const int64_t end = start + PIECE < width ? start + PIECE : width;
            float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
            for (int64_t i = start; i < end; ++i) largest = x[i] > largest ? x[i] : largest;
            if (largest > peak) {
                peak = largest;
                at = start;
            }
        }
        while (at < width - 1 && !(x[at] == peak)) ++at;
        double total = 0.0, weighted = 0.0;
        for (int64_t start = 0; start < width; start += PIECE) {
            const int64_t end = start + PIECE < width ? start + PIECE : width;
            float sum = 0.f, product = 0.f;
#pragma omp simd reduction(+ : sum, product)
            for (int64_t i = start; i < end; ++i) {
                float below = x[i] - peak;
                below = below < -87.f ? -87.f : below;  // false for a NaN
                const float weight = exponential(below);
                sum += weight;
                product += weight * below;
            }
            total += sum;
            weighted += product;
        }
        const double spread = std::log(total);
        lse[row] = static_cast<float>(peak + spread);
        entropy[row] = static_cast<float>(spread - weighted / total);
        top[row] = at;
        if (normalise) {
            const float level = lse[row];
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) x[i] -= level;
        }
    }
}
