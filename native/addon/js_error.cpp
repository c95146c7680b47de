#include "addon/js_error.h"

namespace scholia {

Napi::Error js_error(Napi::Env env, const Error& error) {
  Napi::Error value = Napi::Error::New(env, error.message);
  value.Set("code", std::string(error_code_name(error.code)));
  return value;
}

}  // namespace scholia
