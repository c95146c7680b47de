// What set-up says. All of it goes to standard error: standard output belongs to the command line.

/** A failure that the person can mend: one sentence that says what to do, shown without a stack. */
export class SetupError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "SetupError";
  }
}

/** @param {string} line */
export function say(line) {
  process.stderr.write(`scholia: ${line}\n`);
}

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 100_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** @param {number} bytes */
export function megabytes(bytes) {
  return `${Math.round(bytes / 1e6)} MB`;
}

/**
 * Runs one step of the set-up: says what it does before and how long it took after.
 * @template T
 * @param {string} what begins with a verb: "Building the engine (about 2 min)"
 * @param {(progress: (text: string) => void) => Promise<T>} work `progress` shows where the step is:
 *   ten times a second on a terminal, every ten seconds elsewhere
 * @returns {Promise<T>}
 */
export async function step(what, work) {
  const start = performance.now();
  const terminal = process.stderr.isTTY === true;
  const pause = terminal ? 100 : 10_000;
  let said = start;
  process.stderr.write(`scholia: ${what} …${terminal ? "" : "\n"}`);
  const result = await work((text) => {
    if (performance.now() - said < pause) return;
    said = performance.now();
    if (terminal) process.stderr.write(`\r\x1b[Kscholia: ${what}: ${text}`);
    else say(`  ${text}`);
  });
  const took = duration(performance.now() - start);
  process.stderr.write(
    terminal ? `\r\x1b[Kscholia: ${what}: ${took}\n` : `scholia:   done in ${took}\n`,
  );
  return result;
}

/**
 * Prints why set-up failed and ends the process with exit code 1: the sentence alone where we know
 * what is wrong (errors with a `code` of ours), with the stack where it is a defect.
 * @param {unknown} error
 * @returns {never}
 */
export function fail(error) {
  const expected =
    error instanceof SetupError || (error instanceof Error && error.name === "ScholiaError");
  if (process.stderr.isTTY) process.stderr.write("\n");
  if (expected) say(error.message);
  else say(`this is a defect of Scholia: ${error instanceof Error ? error.stack : String(error)}`);
  process.exit(1);
}
