// Text ↔ token ids, by libllama's vocabulary.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config.h"
#include "engine/status.h"

struct llama_model;
struct llama_vocab;

namespace scholia {

class Vocabulary {
 public:
  // Loads the vocabulary alone. libllama asserts on strange files: open them in a process that may
  // die first (inspect_model).
  static Result<Vocabulary> load(const std::string& model_path);

  int size() const;
  // parse_special: the text of special tokens becomes these tokens, else it is plain text.
  std::vector<Token> tokenize(std::string_view text, bool parse_special) const;
  // The bytes of one token; special tokens give their text when `special` is set, else nothing.
  std::string piece(Token token, bool special) const;
  std::string detokenize(std::span<const Token> tokens) const;
  bool is_end_of_turn(Token token) const;
  Token bos() const;  // -1 when there is none
  Token eos() const;
  bool adds_bos() const;

 private:
  struct Closer {
    void operator()(llama_model* model) const;
  };
  std::unique_ptr<llama_model, Closer> model_;
  const llama_vocab* vocab_ = nullptr;
};

}  // namespace scholia
