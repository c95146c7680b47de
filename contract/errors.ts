/** Error codes as users and programs see them. The first group is the engine's and equals
 * `native/include/engine/status.h` (a test compares them). */
export const engineErrorCodes = [
  "invalid_argument",
  "model_not_found",
  "model_broken",
  "model_unsupported",
  "profile_mismatch",
  "context_exceeded",
  "out_of_memory",
  "disk_full",
  "read_broken",
  "cancelled",
  "device_unavailable",
  "engine_lost",
  "internal",
] as const;

export const documentErrorCodes = [
  "document_not_found",
  "document_empty",
  "document_too_large",
  "document_encrypted",
  "document_no_text",
  "document_broken",
  "document_timeout",
  "document_binary",
  "document_unsupported",
  "document_bad_range",
] as const;

export const hostErrorCodes = [
  "profile_broken",
  "model_unknown",
  "download_failed",
  "checksum_mismatch",
  "library_broken",
  "not_found",
  "not_allowed",
  "usage",
] as const;

export const errorCodes = [...engineErrorCodes, ...documentErrorCodes, ...hostErrorCodes] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** An error that crosses a process boundary: a code for programs, a sentence for people that says
 * what happened, what is kept and what can be done. */
export interface ErrorValue {
  code: ErrorCode;
  message: string;
}

/** Thrown inside a process; crosses boundaries as its {@link ErrorValue}. */
export class ScholiaError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = "ScholiaError";
    this.code = code;
  }

  toValue(): ErrorValue {
    return { code: this.code, message: this.message };
  }
}

/** What a call across a process boundary answers: nothing rejects there, because a rejection keeps
 * only its message on some channels. */
export type Result<T> = { ok: true; value: T } | { ok: false; error: ErrorValue };

/** Any thrown thing as an error value; what is not ours is a defect of ours. */
export function toErrorValue(error: unknown): ErrorValue {
  if (error instanceof ScholiaError) return error.toValue();
  if (isErrorValue(error)) return { code: error.code, message: error.message };
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message };
}

function isErrorValue(error: unknown): error is ErrorValue {
  if (typeof error !== "object" || error === null) return false;
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof message === "string" && (errorCodes as readonly unknown[]).includes(code);
}
