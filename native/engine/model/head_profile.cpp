#include "engine/head_profile.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace scholia {
namespace {

constexpr double kShareTolerance = 0.01;

std::string describe_shape(int n_layers, int n_kv_heads) {
  return std::to_string(n_layers) + " layers x " + std::to_string(n_kv_heads) + " KV heads";
}

bool is_block_size(int block_tokens) {
  return std::find(std::begin(kBlockSizes), std::end(kBlockSizes), block_tokens) !=
         std::end(kBlockSizes);
}

}  // namespace

HeadProfile HeadProfile::uniform(int n_layers, int n_kv_heads, int block_tokens) {
  const size_t n_heads = size_t(std::max(n_layers, 0)) * size_t(std::max(n_kv_heads, 0));
  HeadProfile profile;
  profile.block_tokens.assign(n_heads, uint16_t(block_tokens));
  profile.budget_share.assign(n_heads, 1.0F);
  return profile;
}

Status HeadProfile::check(int n_layers, int n_kv_heads, const std::string& fingerprint) const {
  const size_t n_heads = size_t(n_layers) * size_t(n_kv_heads);
  if (block_tokens.size() != n_heads || budget_share.size() != n_heads) {
    return Error{ErrorCode::kProfileMismatch,
                 "the head profile describes " + std::to_string(block_tokens.size()) +
                     " block sizes and " + std::to_string(budget_share.size()) +
                     " budget shares, but the model has " + describe_shape(n_layers, n_kv_heads) +
                     "; calibrate this model or use the uniform profile"};
  }
  if (!model_fingerprint.empty() && model_fingerprint != fingerprint) {
    return Error{ErrorCode::kProfileMismatch,
                 "the head profile was made for another model (fingerprint " +
                     model_fingerprint.substr(0, 12) +
                     ", this model: " + fingerprint.substr(0, 12) +
                     "); calibrate this model or use the uniform profile"};
  }
  if (digest.kind > DigestKind::kCentroids) {
    return Error{ErrorCode::kInvalidArgument,
                 "head profile: digest kind " + std::to_string(int(digest.kind)) + " is not known"};
  }
  if (digest.bits != 2 && digest.bits != 4 && digest.bits != 8 && digest.bits != 16) {
    return Error{ErrorCode::kInvalidArgument,
                 "head profile: digests of 2, 4, 8 or 16 bits are expected, not of " +
                     std::to_string(int(digest.bits))};
  }
  double sum = 0;
  for (size_t head = 0; head < n_heads; ++head) {
    if (!is_block_size(block_tokens[head])) {
      return Error{ErrorCode::kInvalidArgument,
                   "head profile: block sizes of 16, 32, 64 or 128 tokens are expected, head " +
                       std::to_string(head) + " has " + std::to_string(block_tokens[head])};
    }
    if (!std::isfinite(budget_share[head]) || budget_share[head] <= 0) {
      return Error{ErrorCode::kInvalidArgument,
                   "head profile: positive, finite budget shares are expected, head " +
                       std::to_string(head) + " has " + std::to_string(budget_share[head])};
    }
    sum += budget_share[head];
  }
  const double mean = n_heads == 0 ? 1 : sum / double(n_heads);
  if (std::abs(mean - 1) > kShareTolerance) {
    return Error{ErrorCode::kInvalidArgument,
                 "head profile: budget shares of mean 1 are expected, their mean is " +
                     std::to_string(mean)};
  }
  return {};
}

}  // namespace scholia
