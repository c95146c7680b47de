// libllama's and ggml's log and CPU back-ends belong to the process, not to an environment: they
// are set up once, and every environment that asked gets every line.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "engine/status.h"

namespace scholia {

// Called on any thread. level: ggml's, 1 debug, 2 info, 3 warning, 4 error, 5 continues the last.
using LogSink = std::function<void(int level, std::string_view text)>;

// Loads the back-ends from library_dir, the first time; later calls only check that they name the
// same folder. kInvalidArgument when it is no folder or another one.
Status load_libraries(const std::string& library_dir);

// The sink gets lines as long as the caller holds it.
void add_log_sink(std::weak_ptr<const LogSink> sink);

}  // namespace scholia
