// The real models of the tests. `npm test` fetches them and names their folder in
// SCHOLIA_TEST_MODELS; without it the tests that need them fail, because they must not be forgotten.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace scholia::test {

inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

inline std::string model_path(const std::string& id) {
  return environment("SCHOLIA_TEST_MODELS") + "/" + id + ".gguf";
}

inline constexpr const char* kSmall = "smollm2-135m";
inline constexpr const char* kMedium = "qwen2.5-coder-0.5b";

// Loads ggml's libraries once, from the folder that the build links against.
inline void load_libraries() {
  static const bool once = [] {
    initialise_libraries(SCHOLIA_LIBRARY_DIR, [](int, std::string_view) {});
    return true;
  }();
  (void)once;
}

inline std::unique_ptr<Engine> open_engine(const std::string& id, EngineConfig config = {}) {
  load_libraries();
  config.model_path = model_path(id);
  config.device = Device::kCpu;
  auto engine = Engine::open(config);
  if (!engine.ok()) {
    ADD_FAILURE() << engine.error().message << " (SCHOLIA_TEST_MODELS must name the folder of the "
                  << "test models; npm test sets it)";
    return nullptr;
  }
  return std::move(engine.value());
}

// Real English prose and code that changes with no commit of ours: libllama's header, whose version
// is pinned, with its long comments.
inline std::string real_text() {
  std::ifstream in(std::string(SCHOLIA_LIBRARY_DIR) + "/../include/llama.h");
  std::stringstream buffer;
  buffer << in.rdbuf();
  return buffer.str();
}

inline std::vector<Token> real_tokens(const Engine& engine, size_t n) {
  std::vector<Token> tokens = engine.tokenize(real_text(), false);
  EXPECT_GE(tokens.size(), n);
  tokens.resize(n);
  return tokens;
}

}  // namespace scholia::test
