import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../../..");

const forbidden: [path: string, imported: string][] = [
  ["contract", "../host/main.ts"],
  ["contract", "node:fs"],
  ["contract", "yauzl"],
  ["host", "../cli/main.ts"],
  ["host/document", "../../cli/main.ts"],
  ["host/document", "../../build/paths.ts"],
  ["host/answer", "../../test/unit/x.ts"],
  ["cli", "../native/build/Release/scholia.node"],
  ["cli", "../build/paths.ts"],
  ["electron/main", "../../renderer/app.tsx"],
  ["renderer/store", "../../host/main.ts"],
  ["renderer/store", "node:fs"],
];

const allowed: [path: string, imported: string][] = [
  ["contract", "zod"],
  ["contract", "./errors.ts"],
  ["host/document", "../../contract/errors.ts"],
  ["host/document", "../models/cache.ts"],
  ["host/document", "node:fs"],
  ["cli", "../contract/errors.ts"],
  ["cli", "../host/process.ts"],
  ["renderer/store", "../../contract/errors.ts"],
  ["test/unit", "../../build/paths.ts"],
];

type Case = (typeof forbidden)[number];

/** Lints one file for each case, all in one run, by the project's own settings. Returns the cases
 * whose import the linter restricts. */
function restricted(cases: readonly Case[]): Case[] {
  const folder = mkdtempSync(join(tmpdir(), "scholia-lint-"));
  try {
    copyFileSync(join(root, "biome.json"), join(folder, "biome.json"));
    cases.forEach(([path, imported], i) => {
      const file = join(folder, path, `case${i}.ts`);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `import { a } from "${imported}";\n\nconsole.log(a);\n`);
    });
    const args = ["lint", "--vcs-enabled=false", "--reporter=json", "--max-diagnostics=none", "."];
    const biome = join(root, "node_modules/.bin/biome");
    const { stdout } = spawnSync(biome, args, { cwd: folder, encoding: "utf8" });
    const report = JSON.parse(stdout) as {
      diagnostics: { category: string; location: { path: string | { file: string } } }[];
    };
    const found = report.diagnostics
      .filter(({ category }) => category === "lint/style/noRestrictedImports")
      .map(({ location }) => /case(\d+)\.ts/.exec(JSON.stringify(location))?.[1]);
    return cases.filter((_, i) => found.includes(String(i)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("imports against the direction are found", () => {
  expect(restricted(forbidden)).toEqual(forbidden);
});

test("imports along the direction are free", () => {
  expect(restricted(allowed)).toEqual([]);
});
