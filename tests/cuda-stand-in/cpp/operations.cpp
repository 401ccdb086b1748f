// Every operation of the device: it is checked as CUDA checks it, counted, and done by the CPU on the same memory.
#include "operations.h"

#include "capture.h"
#include "collectives.h"
#include "counters.h"
#include "memory.h"
#include "pinned.h"
#include "streams.h"

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <set>

// Kernels of libtorch that are the same on every device with memory.
namespace at::native {
Tensor as_strided_tensorimpl(const Tensor &, IntArrayRef, IntArrayRef, std::optional<int64_t>);
Tensor view(const Tensor &, IntArrayRef);
Tensor _reshape_alias(const Tensor &, IntArrayRef, IntArrayRef);
Tensor &set_storage_cpu_(Tensor &, Storage, int64_t, IntArrayRef, IntArrayRef);
}  // namespace at::native

namespace stand_in {
namespace {

using at::IntArrayRef;
using at::ScalarType;
using at::Tensor;
using Names = std::set<std::string>;

// Operations that take a CPU tensor of no dimensions beside tensors of the device, as TensorIterator does.
const Names POINTWISE = {
    "add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "true_divide", "floor_divide", "remainder", "pow",
    "pow_", "eq", "ne", "lt", "le", "gt", "ge", "eq_", "ne_", "lt_", "le_", "gt_", "ge_", "logical_and", "logical_or",
    "logical_xor", "logical_and_", "logical_or_", "bitwise_and", "bitwise_or", "bitwise_xor", "maximum", "minimum", "fmax",
    "fmin", "atan2", "where", "clamp", "clamp_", "clamp_min", "clamp_max", "addcmul", "addcdiv", "lerp", "fill_",
    "masked_fill", "masked_fill_", "copy_"};
// Operations whose indices may be on the CPU: CUDA copies them.
const Names INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"};
// Matrix products, which cuBLAS computes.
const Names PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "addmv", "addmv_", "addbmm", "_addmm_activation"};
// Products of cuBLAS that never use TF32.
const Names VECTOR_PRODUCTS = {"dot", "vdot"};
// Operations after which the host waits, because the size of the result or an error code is on the device.
const Names WAITING = {"nonzero", "masked_select", "equal", "_unique2", "unique_dim", "bincount", "repeat_interleave",
                       "_linalg_eigh", "linalg_cholesky_ex", "_linalg_svd"};
// Sums whose order CUDA leaves to chance unless deterministic algorithms are requested.
const Names UNORDERED = {"index_add", "index_add_", "scatter_add", "scatter_add_", "_index_put_impl_",
                         "embedding_dense_backward"};
// Operations that CUDA has in no deterministic form.
const Names NEVER_DETERMINISTIC = {"put_", "histc", "kthvalue", "bincount", "cumsum", "cumsum_",
                                   "upsample_bicubic2d_backward", "upsample_bilinear2d_backward",
                                   "_upsample_bicubic2d_aa_backward"};

std::string base_name(const c10::FunctionSchema &schema) { return schema.name().substr(schema.name().find(':') + 2); }

bool is_written(const c10::Argument &argument) { return argument.alias_info() && argument.alias_info()->isWrite(); }

// Refuses tensors of the CPU beside tensors of the device, in the words of CUDA.
class DeviceCheck {
public:
    explicit DeviceCheck(const c10::FunctionSchema &schema) : name_(base_name(schema)) {}

    void see(const Tensor &tensor, const c10::Argument &argument, bool index = false) {
        if (!tensor.defined()) return;
        if (tensor.is_cuda()) {
            device_ = true;
            return;
        }
        const bool scalar = tensor.dim() == 0 && !is_written(argument) && POINTWISE.count(name_);
        if (!scalar && !index && wrong_.empty()) wrong_ = argument.name();
    }
    bool takes_host_indices() const { return INDEXED.count(name_) > 0; }
    void finish() const {
        TORCH_CHECK(!device_ || wrong_.empty(), "Expected all tensors to be on the same device, but got ", wrong_,
                    " is on cpu, different from other tensors on cuda:0 (when checking argument in method wrapper_CUDA_",
                    name_, ")");
    }

private:
    std::string name_, wrong_;
    bool device_ = false;
};

// Refuses what deterministic algorithms exclude.
void check_determinism(const std::string &name, const Tensor *first) {
    if (!at::globalContext().deterministicAlgorithms()) return;
    const bool whole_numbers = first && first->defined() && at::isIntegralType(first->scalar_type(), true);
    if (NEVER_DETERMINISTIC.count(name) && !whole_numbers) {
        at::Context::alertNotDeterministic(name + "_cuda");
    }
    if (PRODUCTS.count(name) || VECTOR_PRODUCTS.count(name)) {
        const char *workspace = std::getenv("CUBLAS_WORKSPACE_CONFIG");
        const std::string size = workspace ? workspace : "";
        TORCH_CHECK(size == ":4096:8" || size == ":16:8",
                    "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
                    "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it "
                    "uses CuBLAS and you have CUDA >= 10.2. To enable deterministic behavior in this case, you must set an "
                    "environment variable before running your PyTorch application: CUBLAS_WORKSPACE_CONFIG=:4096:8 or "
                    "CUBLAS_WORKSPACE_CONFIG=:16:8.");
    }
}

// CUDA normalises with weights of the input's type only; the CPU also mixes them.
void check_kinds(const std::string &name, at::ArrayRef<c10::IValue> arguments) {
    if (name != "native_layer_norm") return;
    const ScalarType kind = arguments[0].toTensor().scalar_type();
    for (size_t i : {2, 3}) {
        if (!arguments[i].isTensor() || !arguments[i].toTensor().defined()) continue;
        const ScalarType found = arguments[i].toTensor().scalar_type();
        TORCH_CHECK(found == kind, "expected scalar type ", kind, " but found ", found);
    }
}

// The values as the tensor cores of TF32 take them: ten bits of mantissa.
Tensor as_tf32(const Tensor &host) {
    if (!host.defined() || host.scalar_type() != at::kFloat) return host;
    Tensor rounded = host.contiguous().clone();
    auto *bits = static_cast<uint32_t *>(rounded.data_ptr());
    for (int64_t i = 0; i < rounded.numel(); ++i) bits[i] = (bits[i] + 0x1000u) & ~0x1fffu;
    return rounded;
}

// A tensor that the operation writes: what the CPU wrote goes back to the device.
struct Written {
    Tensor device, host;
    const c10::AliasInfo *alias;
};

class HostCall {
public:
    HostCall(const c10::OperatorHandle &op, torch::jit::Stack &stack)
        : op_(op), stack_(stack), schema_(op.schema()), name_(base_name(op.schema())),
          first_(stack.size() - op.schema().arguments().size()) {}

    void run() {
        count_operation(name_);
        compute();
    }

    // Adds it to the graph under capture. It is computed for the shapes of its results; what it would write keeps its values.
    void capture() {
        if (WAITING.count(name_)) refuse_while_capturing(name_.c_str());
        const std::vector<c10::IValue> arguments(stack_.begin() + first_, stack_.end());
        for (const c10::IValue &value : arguments)
            if (value.isOptionalTensorList() && has_tensor_of_host(value))
                refuse_while_capturing("a copy from memory of the host that is not pinned");
        is_dry_ = true;
        compute();
        const std::vector<c10::IValue> results(stack_.end() - schema_.returns().size(), stack_.end());
        // The arguments are noted after the operation, since it may have given an empty one its size.
        record(name_, [op = op_, of_graph = captured(arguments), places = captured(results)] {
            torch::jit::Stack stack;
            for (const auto &value : of_graph) stack.push_back(value());
            HostCall(op, stack).compute();
            for (size_t i = 0; i < places.size(); ++i) put(stack[i], places[i]());
        });
    }

private:
    // A value of the stack as a graph knows it.
    using OfGraph = std::function<c10::IValue()>;

    static std::vector<OfGraph> captured(const std::vector<c10::IValue> &values) {
        std::vector<OfGraph> all;
        for (const c10::IValue &value : values) {
            if (value.isTensor()) {
                all.emplace_back([tensor = CapturedTensor(value.toTensor())] { return c10::IValue(tensor.get()); });
            } else if (value.isTensorList()) {
                std::vector<CapturedTensor> tensors;
                for (const Tensor &tensor : value.toTensorVector()) tensors.emplace_back(tensor);
                all.emplace_back([tensors] {
                    c10::List<Tensor> list;
                    for (const CapturedTensor &tensor : tensors) list.push_back(tensor.get());
                    return c10::IValue(list);
                });
            } else if (value.isOptionalTensorList()) {
                std::vector<std::optional<CapturedTensor>> tensors;
                for (const std::optional<Tensor> &tensor : value.toOptionalTensorVector())
                    tensors.push_back(tensor ? std::optional(CapturedTensor(*tensor)) : std::nullopt);
                all.emplace_back([tensors] {
                    c10::List<std::optional<Tensor>> list;
                    for (const auto &tensor : tensors)
                        list.push_back(tensor ? std::optional(tensor->get()) : std::nullopt);
                    return c10::IValue(list);
                });
            } else {
                all.emplace_back([value] { return value; });
            }
        }
        return all;
    }

    // Copies a result to where the graph has it, unless it is there.
    static void put(const c10::IValue &result, const c10::IValue &place) {
        if (result.isTensorList()) {
            const auto results = result.toTensorVector(), places = place.toTensorVector();
            for (size_t i = 0; i < results.size(); ++i) put(results[i], places[i]);
        } else if (result.isTensor() && result.toTensor().defined()) {
            put(result.toTensor(), place.toTensor());
        }
    }

    static void put(const Tensor &result, const Tensor &place) {
        if (result.is_cuda() && result.numel() && result.data_ptr() != place.data_ptr()) on_host(place).copy_(on_host(result));
    }

    static bool has_tensor_of_host(const c10::IValue &indices) {
        for (const std::optional<Tensor> &tensor : indices.toOptionalTensorVector())
            if (tensor && tensor->defined() && !tensor->is_cuda()) return true;
        return false;
    }

    void compute() {
        check();
        for (size_t i = 0; i < schema_.arguments().size(); ++i) take(stack_[first_ + i], schema_.arguments()[i]);
        {
            at::AutoDispatchBelowADInplaceOrView guard;
            op_.callBoxed(&stack_);
        }
        for (const Written &written : written_) give_back(written);
        const size_t results = stack_.size() - schema_.returns().size();
        for (size_t i = 0; i < schema_.returns().size(); ++i) give(stack_[results + i], schema_.returns()[i]);
        if (WAITING.count(name_)) count_wait(name_);
    }

    void check() {
        DeviceCheck devices(schema_);
        const Tensor *first = nullptr;
        for (size_t i = 0; i < schema_.arguments().size(); ++i) {
            const auto &value = stack_[first_ + i];
            const auto &argument = schema_.arguments()[i];
            if (value.isTensor()) {
                if (!first) first = &value.toTensor();
                devices.see(value.toTensor(), argument);
            } else if (value.isTensorList()) {
                for (const Tensor &tensor : value.toTensorVector()) devices.see(tensor, argument);
            } else if (value.isOptionalTensorList()) {
                for (const std::optional<Tensor> &tensor : value.toOptionalTensorVector())
                    if (tensor) devices.see(*tensor, argument, devices.takes_host_indices());
            }
        }
        devices.finish();
        check_determinism(name_, first);
        check_kinds(name_, at::ArrayRef<c10::IValue>(stack_).slice(first_));
    }

    Tensor host(const Tensor &tensor, const c10::Argument &argument) {
        if (!tensor.defined() || !tensor.is_cuda()) return tensor;
        if (!is_written(argument)) {
            const bool tf32 = PRODUCTS.count(name_) && at::globalContext().allowTF32CuBLAS();
            return tf32 ? as_tf32(on_host(tensor)) : on_host(tensor);
        }
        // The operation may give an empty tensor its size.
        Tensor alias = tensor.numel() ? on_host(tensor) : at::empty(tensor.sizes(), tensor.options().device(at::kCPU));
        if (is_dry_) alias = alias.clone();
        written_.push_back({tensor, alias, argument.alias_info()});
        return alias;
    }

    void take(c10::IValue &value, const c10::Argument &argument) {
        if (value.isTensor()) {
            value = host(value.toTensor(), argument);
        } else if (value.isTensorList()) {
            c10::List<Tensor> hosts;
            for (const Tensor &tensor : value.toTensorVector()) hosts.push_back(host(tensor, argument));
            value = hosts;
        } else if (value.isOptionalTensorList()) {
            c10::List<std::optional<Tensor>> hosts;
            for (const std::optional<Tensor> &tensor : value.toOptionalTensorVector())
                hosts.push_back(tensor ? std::optional<Tensor>(host(*tensor, argument)) : std::nullopt);
            value = hosts;
        } else if (value.isDevice()) {
            value = c10::Device(c10::kCPU);
        }
    }

    void give_back(const Written &written) {
        if (UNORDERED.count(name_)) add_in_any_order(written.host);
        if (written.host.sizes() == written.device.sizes()) return;
        written.device.resize_(written.host.sizes());
        if (is_dry_) without_values(written.device);
        else on_host(written.device).copy_(written.host);
    }

    void give(c10::IValue &value, const c10::Argument &result) {
        if (value.isTensor() && value.toTensor().defined()) {
            if (const c10::AliasInfo *alias = result.alias_info()) {
                for (const Written &written : written_)
                    if (*written.alias == *alias) {
                        value = written.device;
                        return;
                    }
                TORCH_CHECK(false, "the stand-in for CUDA has no view `", name_, "`");
            }
            if (UNORDERED.count(name_)) add_in_any_order(value.toTensor());
            value = result_of(value.toTensor());
        } else if (value.isTensorList()) {
            c10::List<Tensor> devices;
            for (const Tensor &tensor : value.toTensorVector()) devices.push_back(result_of(tensor));
            value = devices;
        }
    }

    Tensor result_of(const Tensor &host) const {
        Tensor device = on_device(host);
        return is_dry_ ? without_values(device) : device;
    }

    const c10::OperatorHandle &op_;
    torch::jit::Stack &stack_;
    const c10::FunctionSchema &schema_;
    const std::string name_;
    const size_t first_;
    std::vector<Written> written_;
    bool is_dry_ = false;
};

// An operation comes after collectives and after the earlier work of its own stream, and is done at once.
void catch_up() {
    catch_up_with_stream();
    drain(current_stream());
}

void on_cpu(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
    catch_up();
    HostCall call(op, *stack);
    if (is_capturing()) call.capture();
    else call.run();
}

Tensor empty_memory_format(IntArrayRef sizes, std::optional<ScalarType> kind, std::optional<at::Layout>,
                           std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
    const Tensor tensor = at::detail::empty_generic(sizes, &memory(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                                    c10::dtype_or_default(kind), format);
    return is_capturing() ? without_values(tensor) : tensor;
}

Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, std::optional<ScalarType> kind, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
    return empty(sizes, strides, c10::dtype_or_default(kind));
}

const char *place(const Tensor &tensor) { return tensor.is_cuda() ? "device" : "host"; }

void copy_values(const Tensor &to, const Tensor &from) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::NoGradGuard no_graph;
    on_host(to).copy_(on_host(from));
}

// CUDA converts on the side of the source, and the host waits unless its memory is pinned and the caller does not want to.
Tensor &copy(Tensor &self, const Tensor &source, bool non_blocking) {
    catch_up();
    const bool crosses = self.is_cuda() != source.is_cuda();
    const Tensor &host = self.is_cuda() ? source : self;
    const bool queued = crosses && non_blocking && is_pinned(host.const_data_ptr());
    if (is_capturing()) {
        // From pinned memory a graph could copy, but from that address at each replay. No program here wants that.
        if (crosses) refuse_while_capturing("a copy between host and device");
        record("copy_", [to = CapturedTensor(self), from = CapturedTensor(source)] { copy_values(to.get(), from.get()); });
        return self;
    }
    count_copy(place(source), place(self), self.numel() * self.element_size());
    if (crosses && !queued) count_wait(std::string("copy_") + place(source) + "_to_" + place(self));
    if (!crosses) count_operation("copy_");
    auto work = [self, source] { copy_values(self, source); };
    if (queued) put_into(current_stream(), work);
    else work();
    return self;
}

at::Scalar local_scalar(const Tensor &tensor) {
    refuse_while_capturing("item");
    catch_up();
    count_wait("item");
    return on_host(tensor).item();
}

const Tensor &resize(const Tensor &tensor, IntArrayRef sizes, std::optional<at::MemoryFormat>) {
    auto *impl = tensor.unsafeGetTensorImpl();
    const auto storage = tensor.storage();
    const int64_t bytes = (c10::multiply_integers(sizes) + tensor.storage_offset()) * tensor.element_size();
    if (bytes > static_cast<int64_t>(storage.nbytes())) {
        auto larger = memory().allocate(bytes);
        if (storage.nbytes()) std::memcpy(larger.get(), storage.data(), storage.nbytes());
        storage.set_data_ptr_noswap(std::move(larger));
        storage.set_nbytes(bytes);
    }
    impl->set_sizes_contiguous(sizes);
    return tensor;
}

Tensor cudnn_convolution(const Tensor &input, const Tensor &weight, c10::SymIntArrayRef padding, c10::SymIntArrayRef stride,
                         c10::SymIntArrayRef dilation, c10::SymInt groups, bool, bool, bool tf32) {
    catch_up();
    TORCH_CHECK(input.is_cuda() && weight.is_cuda(), "Expected all tensors to be on the same device, but got ",
                input.is_cuda() ? "weight" : "self",
                " is on cpu, different from other tensors on cuda:0 (when checking argument in method "
                "wrapper_CUDA_cudnn_convolution)");
    const std::vector<c10::SymInt> none(padding.size(), 0);
    const auto compute = [tf32, groups, none, pad = padding.vec(), steps = stride.vec(),
                          apart = dilation.vec()](const std::vector<Tensor> &operands) {
        at::AutoDispatchBelowADInplaceOrView guard;
        auto host = [&](const Tensor &tensor) { return tf32 ? as_tf32(on_host(tensor)) : on_host(tensor); };
        return std::vector<Tensor>{on_device(
            at::convolution_symint(host(operands[0]), host(operands[1]), {}, steps, pad, apart, false, none, groups))};
    };
    return computed("cudnn_convolution", {input, weight}, compute)[0];
}

Tensor view(const Tensor &tensor, IntArrayRef sizes) { return at::native::view(tensor, sizes); }

bool is_pinned_tensor(const Tensor &tensor, std::optional<at::Device>) { return is_pinned(tensor.const_data_ptr()); }

void record_stream(Tensor &, at::Stream) {}

}  // namespace

Tensor on_host(const Tensor &tensor) {
    if (!tensor.is_cuda()) return tensor;
    void *data = tensor.numel() ? tensor.data_ptr() : nullptr;
    const auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
    return at::from_blob(data, tensor.sizes(), tensor.strides(), [tensor](void *) {}, options);
}

Tensor on_device(const Tensor &host) {
    if (!host.defined()) return host;
    const bool dense = host.is_non_overlapping_and_dense();
    const auto strides = dense ? host.strides().vec() : host.contiguous().strides().vec();
    Tensor device = empty(host.sizes(), strides, host.scalar_type());
    on_host(device).copy_(host);
    return device;
}

Tensor empty(IntArrayRef sizes, IntArrayRef strides, ScalarType kind) {
    return at::detail::empty_strided_generic(sizes, strides, &memory(), c10::DispatchKeySet(c10::DispatchKey::CUDA), kind);
}

void add_in_any_order(const Tensor &host) {
    if (at::globalContext().deterministicAlgorithms() || !host.is_contiguous()) return;
    static std::mt19937 chance{std::random_device{}()};
    auto disturb = [&](auto *bits) {
        for (int64_t i = 0; i < host.numel(); ++i)
            if (bits[i]) bits[i] ^= chance() & 1u;
    };
    if (host.scalar_type() == at::kFloat) disturb(static_cast<uint32_t *>(host.data_ptr()));
    if (host.scalar_type() == at::kDouble) disturb(static_cast<uint64_t *>(host.data_ptr()));
    if (host.scalar_type() == at::kBFloat16) disturb(static_cast<uint16_t *>(host.data_ptr()));
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("empty.memory_format", TORCH_FN(empty_memory_format));
    library.impl("empty_strided", TORCH_FN(empty_strided));
    library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
    library.impl("view", TORCH_FN(view));
    library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
    library.impl("set_.source_Storage_storage_offset", TORCH_FN(at::native::set_storage_cpu_));
    library.impl("copy_", TORCH_FN(copy));
    library.impl("_local_scalar_dense", TORCH_FN(local_scalar));
    library.impl("resize_", TORCH_FN(resize));
    library.impl("is_pinned", TORCH_FN(is_pinned_tensor));
    library.impl("record_stream", TORCH_FN(record_stream));
    library.impl("cudnn_convolution", TORCH_FN(cudnn_convolution));
    // Without a kernel of its own, libtorch would compose it of others.
    library.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

}  // namespace stand_in
