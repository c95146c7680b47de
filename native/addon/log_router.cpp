#include "addon/log_router.h"

#include <filesystem>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace scholia {
namespace {

struct LogRouter {
  void send(int level, std::string_view text) {
    for (const auto& sink : live_sinks()) (*sink)(level, text);
  }
  void add(std::weak_ptr<const LogSink> sink) {
    std::lock_guard lock(mutex);
    sinks.push_back(std::move(sink));
  }
  std::vector<std::shared_ptr<const LogSink>> live_sinks() {
    std::lock_guard lock(mutex);
    std::erase_if(sinks, [](const auto& sink) { return sink.expired(); });
    std::vector<std::shared_ptr<const LogSink>> live;
    for (const auto& sink : sinks) {
      if (auto held = sink.lock()) live.push_back(std::move(held));
    }
    return live;
  }

  std::mutex mutex;
  std::vector<std::weak_ptr<const LogSink>> sinks;
  std::once_flag loaded;
  std::filesystem::path library_dir;  // written once, under `loaded`
};

LogRouter& router() {
  static auto* const router = new LogRouter;  // never freed: the libraries log until the very end
  return *router;
}

}  // namespace

Status load_libraries(const std::string& library_dir) {
  std::error_code failed;
  const auto dir = std::filesystem::canonical(library_dir, failed);
  if (failed || !std::filesystem::is_directory(dir, failed)) {
    return Error{ErrorCode::kInvalidArgument,
                 "initialise: libraryDir must be the folder of ggml's libraries, but there is no "
                 "folder " +
                     library_dir};
  }
  std::call_once(router().loaded, [&] {
    initialise_libraries(dir.string(),
                         [](int level, std::string_view text) { router().send(level, text); });
    router().library_dir = dir;
  });
  if (router().library_dir != dir) {
    return Error{ErrorCode::kInvalidArgument, "initialise: libraryDir is " + dir.string() +
                                                  ", but this process has loaded " +
                                                  router().library_dir.string() + " already"};
  }
  return {};
}

void add_log_sink(std::weak_ptr<const LogSink> sink) { router().add(std::move(sink)); }

}  // namespace scholia
