// One decoding step through all decoder layers of Llama's form: norm, queries, keys and values, rotary positions,
// attention, output product, norm, gated feed-forward block. It does nothing itself but add: the other kernels are handed
// in, and are called as the model's own code would call them, so that every number is the same. With few rows, that code
// takes as long as the arithmetic.
#include <utility>

#include "lanes.h"

namespace {

typedef int64_t Whole;

struct Kernels {
    Whole (*linear)(Whole, const void*, const void*, const float*, void*, Whole, Whole, Whole, Whole, Whole);
    void (*norm)(Whole, const void*, const void*, void*, Whole, Whole, float, float, Whole, Whole);
    void (*rotate)(Whole, const void*, const void*, const void*, void*, Whole, Whole, Whole, Whole);
    void (*attention)(Whole, const void*, const void*, const void*, void*, void*, Whole, const Whole*, const Whole*, Whole,
                      Whole, Whole, Whole, Whole, float, float, void*, float*, Whole);
    // The least work of each for which it takes more than one thread.
    Whole linear_work, norm_work, rotate_work, attention_work;
};

struct Norm {
    const void* weight;  // null: there is none
    Whole width;
    float eps, plus;
    Whole late;
};

struct Product {
    const void* panels;
    const float* bias;
    Whole in, outs, activation;
};

struct Layer {
    Norm before_attention, of_queries, of_keys, before_block;
    Product queries, keys, values, output, gated, down;
    Whole window;
    float scaling, softcap;
};

struct Step {
    Whole is_bf16, rows, heads, groups, dim;
    const void *cosine, *sine;             // [rows, dim]
    void *const *cached_keys, *const *cached_values;  // by layer: [rows, groups, capacity, dim]
    Whole capacity;
    const Whole *lengths, *common;         // [rows]
    Whole width, held;                     // rows of an item; the sum of lengths
    void* hidden;                          // [rows, width of the model]: input, then output
    void* room[4];                         // each for rows by the widest product
    float* lse;                            // [rows, heads]
    Whole threads;
};

template <typename T>
void add(T* to, const T* term, Whole count) {
#pragma omp simd
    for (Whole i = 0; i < count; ++i) narrow(widen(to[i]) + widen(term[i]), to + i);
}

struct Run {
    const Kernels& with;
    const Step& step;

    Whole threads(Whole work, Whole least) const { return work >= least ? step.threads : 1; }

    void product(const Product& p, const void* x, void* out) const {
        with.linear(step.is_bf16, x, p.panels, p.bias, out, step.rows, p.in, p.outs, p.activation,
                    threads(step.rows * p.in * p.outs, with.linear_work));
    }
    void norm(const Norm& n, const void* x, void* out, Whole rows) const {
        with.norm(step.is_bf16, x, n.weight, out, rows, n.width, n.eps, n.plus, n.late,
                  threads(rows * n.width, with.norm_work));
    }
    // Heads of queries or keys at ``x``, through ``other`` and back, or left in ``other``: where they are now.
    void* turned(const Norm& n, Whole heads, void* x, void* other) const {
        if (n.weight) {
            norm(n, x, other, step.rows * heads);
            std::swap(x, other);
        }
        with.rotate(step.is_bf16, x, step.cosine, step.sine, other, step.rows, heads, step.dim,
                    threads(step.rows * heads * step.dim, with.rotate_work));
        return other;
    }
    void plus(const void* term, Whole width) const {
        const Whole count = step.rows * width;
        if (step.is_bf16)
            add(static_cast<uint16_t*>(step.hidden), static_cast<const uint16_t*>(term), count);
        else
            add(static_cast<float*>(step.hidden), static_cast<const float*>(term), count);
    }
    void layer(const Layer& l, void* cached_keys, void* cached_values) const {
        const Whole own = step.is_bf16 ? 2 : 4;
        void *normed = step.room[0], *a = step.room[1], *b = step.room[2], *c = step.room[3];
        norm(l.before_attention, step.hidden, normed, step.rows);
        product(l.queries, normed, a);
        void* queries = turned(l.of_queries, step.heads, a, b);
        // What the queries have left free holds the keys; they and the values share one room.
        void* free = queries == a ? b : a;
        void* values = static_cast<char*>(c) + own * step.rows * l.keys.outs;
        product(l.keys, normed, free);
        void* keys = turned(l.of_keys, step.groups, free, c);
        product(l.values, normed, values);
        void* attended = normed;
        with.attention(step.is_bf16, queries, keys, values, cached_keys, cached_values, step.capacity, step.lengths,
                       step.common, step.rows, step.width, step.groups, step.heads / step.groups, l.window, l.scaling,
                       l.softcap, attended, step.lse, threads(step.heads * step.dim * step.held, with.attention_work));
        product(l.output, attended, queries);
        plus(queries, l.output.outs);
        norm(l.before_block, step.hidden, normed, step.rows);
        product(l.gated, normed, a);
        product(l.down, a, b);
        plus(b, l.down.outs);
    }
};

}  // namespace

// The hidden states of ``step`` through ``count`` layers, in place.
extern "C" void dasd_layers(const Kernels* with, const Layer* layers, Whole count, const Step* step) {
    const Run run{*with, *step};
    for (Whole i = 0; i < count; ++i) run.layer(layers[i], step->cached_keys[i], step->cached_values[i]);
}
