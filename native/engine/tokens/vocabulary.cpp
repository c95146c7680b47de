#include "engine/tokens/vocabulary.h"

#include <llama.h>

#include <algorithm>

namespace scholia {

void Vocabulary::Closer::operator()(llama_model* model) const { llama_model_free(model); }

Result<Vocabulary> Vocabulary::load(const std::string& model_path) {
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  params.n_gpu_layers = 0;
  Vocabulary vocabulary;
  vocabulary.model_.reset(llama_model_load_from_file(model_path.c_str(), params));
  if (!vocabulary.model_) {
    return Error{ErrorCode::kModelBroken, "The vocabulary of " + model_path +
                                              " cannot be read. Download the model again."};
  }
  vocabulary.vocab_ = llama_model_get_vocab(vocabulary.model_.get());
  return vocabulary;
}

int Vocabulary::size() const { return llama_vocab_n_tokens(vocab_); }

std::vector<Token> Vocabulary::tokenize(std::string_view text, bool parse_special) const {
  // A token is at least one byte; a few more for a prefix that some vocabularies add.
  std::vector<Token> tokens(text.size() + 8);
  int n = llama_tokenize(vocab_, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                         static_cast<int32_t>(tokens.size()), /*add_special=*/false, parse_special);
  if (n < 0) {
    tokens.resize(static_cast<size_t>(-n));
    n = llama_tokenize(vocab_, text.data(), static_cast<int32_t>(text.size()), tokens.data(), -n,
                       /*add_special=*/false, parse_special);
  }
  tokens.resize(static_cast<size_t>(std::max(n, 0)));
  return tokens;
}

std::string Vocabulary::piece(Token token, bool special) const {
  std::string out(64, '\0');
  int n = llama_token_to_piece(vocab_, token, out.data(), static_cast<int32_t>(out.size()), 0,
                               special);
  if (n < 0) {
    out.resize(static_cast<size_t>(-n));
    n = llama_token_to_piece(vocab_, token, out.data(), -n, 0, special);
  }
  out.resize(static_cast<size_t>(std::max(n, 0)));
  return out;
}

std::string Vocabulary::detokenize(std::span<const Token> tokens) const {
  std::string out;
  for (const Token token : tokens) out += piece(token, /*special=*/true);
  return out;
}

bool Vocabulary::is_end_of_turn(Token token) const { return llama_vocab_is_eog(vocab_, token); }
Token Vocabulary::bos() const { return llama_vocab_bos(vocab_); }
Token Vocabulary::eos() const { return llama_vocab_eos(vocab_); }
bool Vocabulary::adds_bos() const { return llama_vocab_get_add_bos(vocab_); }

}  // namespace scholia
