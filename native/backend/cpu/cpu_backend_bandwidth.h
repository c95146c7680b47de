// What the memory gives the threads of a step that does nothing but read: the floor of its time.
#pragma once

namespace scholia {

// Bytes per second, the best of a few passes over more than a cache holds. Takes about 0.3 s.
double read_bandwidth(int n_threads);

}  // namespace scholia
