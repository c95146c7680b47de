// scholia::Error → a JS Error whose `code` is the error code's word.
#pragma once

#include <napi.h>

#include "engine/status.h"

namespace scholia {

Napi::Error js_error(Napi::Env env, const Error& error);

}  // namespace scholia
