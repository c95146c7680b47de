#include "engine/status.h"

namespace scholia {

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kModelNotFound:
      return "model_not_found";
    case ErrorCode::kModelBroken:
      return "model_broken";
    case ErrorCode::kModelUnsupported:
      return "model_unsupported";
    case ErrorCode::kProfileMismatch:
      return "profile_mismatch";
    case ErrorCode::kContextExceeded:
      return "context_exceeded";
    case ErrorCode::kOutOfMemory:
      return "out_of_memory";
    case ErrorCode::kDiskFull:
      return "disk_full";
    case ErrorCode::kReadBroken:
      return "read_broken";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kDeviceUnavailable:
      return "device_unavailable";
    case ErrorCode::kEngineLost:
      return "engine_lost";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";  // a value that no enumerator has: a defect of ours
}

}  // namespace scholia
