// Token bytes → whole UTF-8 characters: a token may end inside a character.
#pragma once

#include <string>
#include <string_view>

namespace scholia {

class TextStream {
 public:
  // Adds bytes and returns the text that is complete now. Bytes that can never become a character
  // come out as U+FFFD.
  std::string push(std::string_view bytes);
  // What is left at the end; an unfinished character comes out as U+FFFD.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace scholia
