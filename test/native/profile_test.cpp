#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/head_profile.h"

namespace scholia {
namespace {

constexpr int kLayers = 3;
constexpr int kKvHeads = 2;
const std::string kModel(64, 'a');

ErrorCode code_of(const HeadProfile& profile) {
  const Status status = profile.check(kLayers, kKvHeads, kModel);
  EXPECT_FALSE(status.ok());
  return status.ok() ? ErrorCode::kInternal : status.error().code;
}

TEST(HeadProfile, UniformFitsEveryModelOfItsShape) {
  for (const int block_tokens : kBlockSizes) {
    const HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads, block_tokens);
    EXPECT_EQ(profile.block_tokens, std::vector<uint16_t>(6, uint16_t(block_tokens)));
    EXPECT_EQ(profile.budget_share, std::vector<float>(6, 1.0F));
    EXPECT_TRUE(profile.check(kLayers, kKvHeads, kModel).ok());
    EXPECT_TRUE(profile.check(kLayers, kKvHeads, std::string(64, 'b')).ok());
  }
}

TEST(HeadProfile, RefusesAnotherShapeOrModel) {
  HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads);
  EXPECT_EQ(profile.check(kLayers, kKvHeads + 1, kModel).error().code, ErrorCode::kProfileMismatch);
  EXPECT_EQ(profile.check(kLayers + 1, kKvHeads, kModel).error().code, ErrorCode::kProfileMismatch);
  profile.model_fingerprint = std::string(64, 'b');
  EXPECT_EQ(code_of(profile), ErrorCode::kProfileMismatch);
  profile.model_fingerprint = kModel;
  EXPECT_TRUE(profile.check(kLayers, kKvHeads, kModel).ok());
  profile.budget_share.pop_back();
  EXPECT_EQ(code_of(profile), ErrorCode::kProfileMismatch);
}

TEST(HeadProfile, RefusesBlockSizesThatNoKernelKnows) {
  for (const int block_tokens : {0, 1, 8, 15, 17, 48, 127, 256, 65535}) {
    HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads);
    profile.block_tokens[4] = uint16_t(block_tokens);
    EXPECT_EQ(code_of(profile), ErrorCode::kInvalidArgument) << block_tokens;
  }
}

TEST(HeadProfile, RefusesSharesThatAreNoShares) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float share : {0.0F, -1.0F, nan, infinity, -infinity}) {
    HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads);
    profile.budget_share[2] = share;
    EXPECT_EQ(code_of(profile), ErrorCode::kInvalidArgument) << share;
  }
}

TEST(HeadProfile, SharesHaveMeanOneWithinOnePercent) {
  for (const float mean : {0.5F, 0.989F, 1.011F, 2.0F}) {
    HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads);
    for (float& share : profile.budget_share) share = mean;
    EXPECT_EQ(code_of(profile), ErrorCode::kInvalidArgument) << mean;
  }
  for (const float mean : {0.991F, 1.0F, 1.009F}) {
    HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads);
    for (float& share : profile.budget_share) share = mean;
    EXPECT_TRUE(profile.check(kLayers, kKvHeads, kModel).ok()) << mean;
  }
}

TEST(HeadProfile, RefusesAnUnknownDigest) {
  HeadProfile profile = HeadProfile::uniform(kLayers, kKvHeads);
  profile.digest.kind = DigestKind(5);
  EXPECT_EQ(code_of(profile), ErrorCode::kInvalidArgument);
  profile.digest.kind = DigestKind::kCentroids;
  EXPECT_TRUE(profile.check(kLayers, kKvHeads, kModel).ok());
  for (const int bits : {0, 1, 3, 5, 32}) {
    profile.digest.bits = uint8_t(bits);
    EXPECT_EQ(code_of(profile), ErrorCode::kInvalidArgument) << bits;
  }
}

}  // namespace
}  // namespace scholia
