// @ts-nocheck: by its types all of this is there.
// What the host uses and Node 16 lacks, for the Electron of the tests (22). It is no part of what is
// shipped.
const { execFile } = require("node:child_process");
const files = require("node:fs/promises");
const os = require("node:os");
const { join, relative } = require("node:path");
const { promisify } = require("node:util");

os.availableParallelism ??= () => os.cpus().length;

files.statfs ??= async (path) => {
  const { stdout } = await promisify(execFile)("stat", ["-f", "-c", "%S %b %a", path]);
  const [bsize, blocks, bavail] = stdout.split(" ").map(Number);
  return { bsize, blocks, bavail };
};

const { readdir } = files;
files.readdir = async (folder, options) =>
  options?.recursive ? namesIn(folder, folder) : readdir(folder, options);

async function namesIn(folder, base) {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.map(async (entry) => {
    const path = join(folder, entry.name);
    return [relative(base, path), ...(entry.isDirectory() ? await namesIn(path, base) : [])];
  });
  return (await Promise.all(names)).flat();
}

Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

globalThis.DOMException ??= (() => {
  const controller = new AbortController();
  controller.abort();
  return controller.signal.reason.constructor;
})();

AbortSignal.any ??= (signals) => {
  const controller = new AbortController();
  for (const signal of signals) {
    const abort = () => controller.abort(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  }
  return controller.signal;
};

// A surrogate without its other half.
const alone = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
String.prototype.toWellFormed ??= function () {
  return this.replace(alone, "\ufffd");
};
