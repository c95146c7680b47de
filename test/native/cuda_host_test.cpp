// What of the CUDA backend can be seen without a GPU: the planes' sizes, errors as values, and which
// device runs with which reason.
#include "backend/choose_backend.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/cuda_prefill.h"
#include "backend/cuda/kernels/weights.cuh"
#include "cuda_support.h"
#include "models.h"

namespace scholia::test {
namespace {

using namespace cuda;

class CudaPlanes : public ::testing::TestWithParam<Format> {};

TEST_P(CudaPlanes, TakeNoMoreThanTheFileButForUnpackedScales) {
  const auto [type, format] = GetParam();
  constexpr int kCols = kSuperUnits * kUnitWeights;
  const PlaneBytes b = plane_bytes(format);
  const bool is_unpacked = type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K;
  EXPECT_EQ(size_t(kSuperUnits * (b.codes + b.high + b.scales) + b.supers),
            ggml_row_size(type, kCols) + (is_unpacked ? 4 : 0));
}

INSTANTIATE_TEST_SUITE_P(All, CudaPlanes, ::testing::ValuesIn(kFormats), [](const auto& info) {
  return std::string(ggml_type_name(info.param.type));
});

// With the rows of Llama-3.1-8B, on cards of 80, 16, 12 and 8 GB that hold 4.9 GB of weights.
TEST(CudaPrefillSteps, AreShorterWhereThereIsLittleMemory) {
  constexpr uint64_t kRow = 152'068, kGb = 1'000'000'000;
  EXPECT_EQ(suitable_step_tokens(75 * kGb, kRow, 131'072), 4096);
  EXPECT_EQ(suitable_step_tokens(11 * kGb, kRow, 131'072), 4096);
  EXPECT_EQ(suitable_step_tokens(7 * kGb, kRow, 131'072), 2048);
  EXPECT_EQ(suitable_step_tokens(3 * kGb, kRow, 131'072), 1024);
  EXPECT_EQ(suitable_step_tokens(0, kRow, 131'072), 512);
  EXPECT_EQ(suitable_step_tokens(75 * kGb, kRow, 2000), 2048) << "no longer than a context needs";
}

class CudaWithoutGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto device = find_cuda_device();
    if (device.ok()) GTEST_SKIP() << "there is a GPU here: " << device.value().name;
    why_ = device.error().message;
    load_libraries();
  }

  Result<ChosenBackend> choose(Device device) {
    return choose_backend(device, *model_, {.n_threads = 1, .max_context = 256, .prefill_step_tokens = 64});
  }

  std::string why_;
  RandomModel random_{{}};
  std::unique_ptr<GgufModel> model_ = random_.open();
};

TEST_F(CudaWithoutGpu, TheProcessorRunsAndSaysWhyTheGpuDoesNot) {
  EXPECT_FALSE(cuda_support().is_usable);
  EXPECT_EQ(cuda_support().detail, why_);
  const auto chosen = choose(Device::kAuto);
  ASSERT_TRUE(chosen.ok()) << chosen.error().message;
  EXPECT_EQ(chosen.value().backend->device_name().rfind("cpu", 0), 0U);
}

TEST_F(CudaWithoutGpu, TheGpuIsRefusedWithTheReason) {
  const auto chosen = choose(Device::kCuda);
  ASSERT_FALSE(chosen.ok());
  EXPECT_EQ(chosen.error().code, ErrorCode::kDeviceUnavailable);
  EXPECT_NE(chosen.error().message.find(why_), std::string::npos) << chosen.error().message;
}

TEST_F(CudaWithoutGpu, ALaunchFailsAndTheProcessLives) {
  __half out[32];
  const uint8_t codes[128]{};
  DeviceMatrix matrix;
  matrix.n_rows = 1;
  matrix.n_cols = 32;
  matrix.codes = codes;
  const Status status = check(launch_dequantise({matrix, 0, 1, out}, nullptr), "a test");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kEngineLost);
}

}  // namespace
}  // namespace scholia::test
