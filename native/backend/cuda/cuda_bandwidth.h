// What the device's memory gives: the floor of a decode step, which reads its bytes once.
#pragma once

#include <cstddef>

#include "engine/status.h"

namespace scholia::cuda {

// Bytes read and written per second by a device-to-device copy of n_bytes, which should be far beyond
// the caches: the median of several. out_of_memory, engine_lost.
Result<double> copy_bytes_per_second(size_t n_bytes);

}  // namespace scholia::cuda
