#include "engine/status.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace scholia {
namespace {

// The words in contract/errors.ts, in order.
std::vector<std::string> words_of_the_contract() {
  std::ifstream file(SCHOLIA_SOURCE_DIR "/contract/errors.ts");
  std::stringstream text;
  text << file.rdbuf();
  const std::string source = text.str();
  const size_t begin = source.find("engineErrorCodes = [");
  const std::string list = source.substr(begin, source.find(']', begin) - begin);
  std::vector<std::string> words;
  for (size_t open = list.find('"'); open != std::string::npos; open = list.find('"', open)) {
    const size_t close = list.find('"', open + 1);
    words.push_back(list.substr(open + 1, close - open - 1));
    open = close + 1;
  }
  return words;
}

TEST(Status, CodesAreTheWordsOfTheContract) {
  std::vector<std::string> words;
  for (int code = 0; code <= int(ErrorCode::kInternal); ++code) {
    words.emplace_back(error_code_name(ErrorCode(code)));
  }
  EXPECT_EQ(words, words_of_the_contract());
}

TEST(Status, AResultHoldsAValueOrAnError) {
  Result<std::unique_ptr<int>> value = std::make_unique<int>(7);
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value.value(), 7);
  const Result<int> error = Error{ErrorCode::kDiskFull, "no room"};
  ASSERT_FALSE(error.ok());
  EXPECT_EQ(error.error().code, ErrorCode::kDiskFull);
  EXPECT_EQ(error.error().message, "no room");
  EXPECT_TRUE(Status().ok());
  EXPECT_FALSE(Status(error.error()).ok());
}

}  // namespace
}  // namespace scholia
