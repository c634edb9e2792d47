// oneDNN behind five C functions: a convolution or a matrix product with constant weights, which it packs as it likes.
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;

namespace {

// What data and output look like outside the primitive.
enum Mode {
    OWN_LAYOUT = 0,    // as oneDNN prefers
    PLAIN = 1,         // NCHW, taken and given by the primitive itself
    PLAIN_AROUND = 2,  // NCHW, converted to and from the preferred layout in every call
};

std::string text;

#if DNNL_VERSION_MAJOR < 3  // a primitive is described in two steps
template <typename Primitive, typename... Arguments>
auto described(const dnnl::engine &engine, Arguments &&...arguments) {
    return typename Primitive::primitive_desc(typename Primitive::desc(std::forward<Arguments>(arguments)...), engine);
}
#else
template <typename Primitive, typename... Arguments>
auto described(const dnnl::engine &engine, Arguments &&...arguments) {
    return typename Primitive::primitive_desc(engine, std::forward<Arguments>(arguments)...);
}
#endif

memory::desc plain(const Dims &dims) {
    static const Tag tags[] = {Tag::undef, Tag::a, Tag::ab, Tag::abc, Tag::abcd, Tag::abcde};
    return {dims, memory::data_type::f32, tags[dims.size()]};
}

memory::desc chosen(const Dims &dims) { return {dims, memory::data_type::f32, Tag::any}; }

struct Call {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    std::vector<std::pair<dnnl::primitive, std::unordered_map<int, memory>>> steps;
    memory output;
    Dims output_dims;
    std::string description;

    memory converted(const float *values, const Dims &dims, const memory::desc &wanted) {
        memory from(plain(dims), engine), to(wanted, engine);
        std::memcpy(from.get_data_handle(), values, plain(dims).get_size());
        dnnl::reorder(from, to).execute(stream, from, to);
        stream.wait();
        return to;
    }

    // Adds a reorder to what is done in every call.
    void add_reorder(const memory &from, const memory &to) {
        steps.push_back({dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}});
    }

    template <typename Primitive>
    void build(const typename Primitive::primitive_desc &d, int mode, const float *x, const Dims &xd, const float *w,
               const Dims &wd, const Dims &yd) {
        description = d.impl_info_str();
        output_dims = yd;
        memory data = converted(x, xd, d.src_desc()), result(d.dst_desc(), engine);
        const memory weight = converted(w, wd, d.weights_desc());
        if (mode == PLAIN_AROUND && d.src_desc() != plain(xd)) add_reorder(converted(x, xd, plain(xd)), data);
        steps.push_back({Primitive(d), {{DNNL_ARG_SRC, data}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, result}}});
        output = result;
        if (mode == PLAIN_AROUND && d.dst_desc() != plain(yd)) {
            output = memory(plain(yd), engine);
            add_reorder(result, output);
        }
    }
};

template <typename Build>
Call *made(Build build) {
    auto *call = new Call;
    try {
        build(*call);
        return call;
    } catch (const dnnl::error &problem) {
        text = problem.what();
        delete call;
        return nullptr;
    }
}

}  // namespace

extern "C" {

// Null on failure; describe(nullptr) then says why. groups is 1, or the number of channels of a depthwise convolution.
Call *convolution(int ci, int h, int w, int co, int k, int stride, int pad, int groups, int mode, int winograd,
                  const float *x, const float *weight) {
    const Dims xd{1, ci, h, w}, yd{1, co, (h + 2 * pad - k) / stride + 1, (w + 2 * pad - k) / stride + 1};
    const Dims wd = groups == 1 ? Dims{co, ci, k, k} : Dims{groups, co / groups, ci / groups, k, k};
    return made([&](Call &call) {
        const auto outside = mode == PLAIN ? plain : chosen;
        const auto how = winograd ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct;
        const auto d = described<dnnl::convolution_forward>(
            call.engine, dnnl::prop_kind::forward_inference, how, outside(xd), chosen(wd), outside(yd),
            Dims{stride, stride}, Dims{pad, pad}, Dims{pad, pad});
        call.build<dnnl::convolution_forward>(d, mode, x, xd, weight, wd, yd);
    });
}

// x [m, k] times weight [k, n].
Call *product(int m, int k, int n, const float *x, const float *weight) {
    const Dims xd{m, k}, wd{k, n}, yd{m, n};
    return made([&](Call &call) {
        const auto d = described<dnnl::matmul>(call.engine, plain(xd), chosen(wd), plain(yd));
        call.build<dnnl::matmul>(d, OWN_LAYOUT, x, xd, weight, wd, yd);
    });
}

void run(Call *call) {
    for (auto &[primitive, arguments] : call->steps) primitive.execute(call->stream, arguments);
}

// Writes the output of the last run to y, in plain layout.
void output(Call *call, float *y) {
    memory to(plain(call->output_dims), call->engine, y);
    dnnl::reorder(call->output, to).execute(call->stream, call->output, to);
    call->stream.wait();
}

const char *describe(const Call *call) {
    if (call) return call->description.c_str();
    return text.c_str();
}

const char *library_version() {
    const auto *v = dnnl::version();
    text = std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
    return text.c_str();
}
}
