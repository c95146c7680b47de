#include "backend/cuda/cublas_lt.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <tuple>
#include <vector>

namespace scholia::cuda {
namespace {

// The part of cuBLASLt's interface that is used, as its documentation gives it (unchanged since
// CUDA 11). Handles are opaque; the algorithm is a value of 64 bytes.
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};
constexpr int kCompute32F = 68;
constexpr int kTransposeA = 3;       // attributes of a product
constexpr int kMaxWorkspace = 1;     // attribute of a preference
constexpr int32_t kTranspose = 1;
constexpr size_t kWorkspaceBytes = 32 << 20;

using Handle = void*;
struct Functions {
  int (*create)(Handle*);
  int (*destroy)(Handle);
  int (*desc_create)(Handle*, int compute, int scale_type);
  int (*desc_destroy)(Handle);
  int (*desc_set)(Handle, int attribute, const void*, size_t);
  int (*layout_create)(Handle*, int type, uint64_t rows, uint64_t cols, int64_t ld);
  int (*layout_destroy)(Handle);
  int (*preference_create)(Handle*);
  int (*preference_destroy)(Handle);
  int (*preference_set)(Handle, int attribute, const void*, size_t);
  int (*heuristic)(Handle, Handle desc, Handle a, Handle b, Handle c, Handle d, Handle preference,
                   int wanted, Heuristic*, int* found);
  int (*multiply)(Handle, Handle desc, const void* alpha, const void* a, Handle a_layout,
                  const void* b, Handle b_layout, const void* beta, const void* c, Handle c_layout,
                  void* d, Handle d_layout, const Algorithm*, void* workspace, size_t bytes,
                  cudaStream_t);
};

bool find_functions(void* library, Functions& f) {
  bool all = true;
  const auto find = [&](auto& function, const char* name) {
    void* symbol = dlsym(library, name);
    all = all && symbol != nullptr;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
  };
  find(f.create, "cublasLtCreate");
  find(f.destroy, "cublasLtDestroy");
  find(f.desc_create, "cublasLtMatmulDescCreate");
  find(f.desc_destroy, "cublasLtMatmulDescDestroy");
  find(f.desc_set, "cublasLtMatmulDescSetAttribute");
  find(f.layout_create, "cublasLtMatrixLayoutCreate");
  find(f.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(f.preference_create, "cublasLtMatmulPreferenceCreate");
  find(f.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(f.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(f.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(f.multiply, "cublasLtMatmul");
  return all;
}

// The folder of the addon, or of the program that has the engine in it.
std::filesystem::path own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&find_functions), &info) == 0) return {};
  return std::filesystem::path(info.dli_fname).parent_path();
}

std::vector<std::string> candidates() {
  // The runtime is linked in: a library of its major version goes with it.
  const std::string name = "libcublasLt.so." + std::to_string(CUDART_VERSION / 1000);
  std::vector<std::string> paths;
  const auto in_folder = [&](const std::filesystem::path& folder) {
    paths.push_back((folder / name).string());
  };
  if (const char* own = std::getenv("SCHOLIA_CUBLASLT")) {
    paths.emplace_back(own);
    in_folder(own);
  }
  in_folder(own_folder());
  paths.push_back(name);
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const char* home = std::getenv(variable)) {
      in_folder(std::filesystem::path(home) / "lib64");
      in_folder(std::filesystem::path(home) / "lib");
    }
  }
  in_folder("/usr/local/cuda/lib64");
  in_folder("/usr/lib/x86_64-linux-gnu");
  return paths;
}

Error lost(const char* what) {
  return {ErrorCode::kEngineLost,
          std::string("cuBLASLt failed (") + what + "). The engine must be started again."};
}

// A product's shape, its layouts and the algorithm chosen for it.
struct Plan {
  Handle desc = nullptr, w = nullptr, x = nullptr, y = nullptr;
  Algorithm algorithm{};
};
using Shape = std::tuple<int, int, int, int, bool>;  // n, n_in, n_out, y_stride, y_is_f32

}  // namespace

struct CublasLt::State {
  void* library = nullptr;
  Functions f{};
  Handle handle = nullptr;
  DeviceBuffer workspace;
  std::map<Shape, Plan> plans;

  ~State() {
    for (auto& [shape, plan] : plans) release(plan);
    if (handle != nullptr) f.destroy(handle);
    // The library stays: others of the process may have it too.
  }
  void release(Plan& plan) const {
    if (plan.desc != nullptr) f.desc_destroy(plan.desc);
    for (Handle layout : {plan.w, plan.x, plan.y}) {
      if (layout != nullptr) f.layout_destroy(layout);
    }
  }
  Result<const Plan*> plan_for(const Product& product);
  bool fill(Plan& plan, const Product& product) const;
};

CublasLt::CublasLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
CublasLt::~CublasLt() = default;
size_t CublasLt::workspace_bytes() const { return state_->workspace.bytes(); }

Result<std::unique_ptr<CublasLt>> CublasLt::open() {
  auto state = std::make_unique<State>();
  for (const std::string& path : candidates()) {
    state->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (state->library != nullptr) break;
  }
  if (state->library == nullptr) {
    return Error{ErrorCode::kDeviceUnavailable,
                 "cuBLASLt " + std::to_string(CUDART_VERSION / 1000) +
                     ", which reading on the GPU needs, was not found: install the CUDA toolkit or "
                     "the Python package nvidia-cublas and set SCHOLIA_CUBLASLT to the folder of "
                     "libcublasLt"};
  }
  if (!find_functions(state->library, state->f) || state->f.create(&state->handle) != 0) {
    return Error{ErrorCode::kDeviceUnavailable, "cuBLASLt was found but cannot be used"};
  }
  if (Status status = state->workspace.allocate(kWorkspaceBytes, "cuBLASLt's workspace");
      !status.ok()) {
    return status.error();
  }
  return std::unique_ptr<CublasLt>(new CublasLt(std::move(state)));
}

// cuBLASLt counts columns first: in its words y^T [n_out, n] = W [n_in, n_out]^T x^T [n_in, n].
bool CublasLt::State::fill(Plan& plan, const Product& p) const {
  const int y_type = p.y_is_f32 ? CUDA_R_32F : CUDA_R_16F;
  Handle preference = nullptr;
  Heuristic heuristic{};
  int found = 0;
  const bool ok =
      f.desc_create(&plan.desc, kCompute32F, CUDA_R_32F) == 0 &&
      f.desc_set(plan.desc, kTransposeA, &kTranspose, sizeof kTranspose) == 0 &&
      f.layout_create(&plan.w, CUDA_R_16F, uint64_t(p.n_in), uint64_t(p.n_out), p.n_in) == 0 &&
      f.layout_create(&plan.x, CUDA_R_16F, uint64_t(p.n_in), uint64_t(p.n), p.n_in) == 0 &&
      f.layout_create(&plan.y, y_type, uint64_t(p.n_out), uint64_t(p.n), p.y_stride) == 0 &&
      f.preference_create(&preference) == 0 &&
      f.preference_set(preference, kMaxWorkspace, &kWorkspaceBytes, sizeof kWorkspaceBytes) == 0 &&
      f.heuristic(handle, plan.desc, plan.w, plan.x, plan.y, plan.y, preference, 1, &heuristic,
                  &found) == 0 &&
      found == 1;
  if (preference != nullptr) f.preference_destroy(preference);
  plan.algorithm = heuristic.algorithm;
  return ok;
}

Result<const Plan*> CublasLt::State::plan_for(const Product& p) {
  const Shape shape{p.n, p.n_in, p.n_out, p.y_stride, p.y_is_f32};
  if (const auto known = plans.find(shape); known != plans.end()) return &known->second;
  Plan plan;
  if (!fill(plan, p)) {
    release(plan);
    return lost("no algorithm for a product");
  }
  return &plans.emplace(shape, plan).first->second;
}

Status CublasLt::multiply(const Product& p, cudaStream_t stream) {
  const auto plan = state_->plan_for(p);
  if (!plan.ok()) return plan.error();
  const Plan& use = *plan.value();
  const float one = 1, beta = p.adds ? 1.0F : 0.0F;
  const int status = state_->f.multiply(state_->handle, use.desc, &one, p.w, use.w, p.x, use.x,
                                        &beta, p.y, use.y, p.y, use.y, &use.algorithm,
                                        state_->workspace.as<void>(), kWorkspaceBytes, stream);
  if (status != 0) return lost("a product");
  return {};
}

}  // namespace scholia::cuda
