import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { cacheDir, modelsDir, nativeDir } from "../../../host/models/cache.ts";

afterEach(() => vi.unstubAllEnvs());

test("SCHOLIA_CACHE comes first, then XDG_CACHE_HOME, then the home folder", () => {
  expect(cacheDir({ SCHOLIA_CACHE: "/a", XDG_CACHE_HOME: "/b" })).toBe("/a");
  expect(cacheDir({ XDG_CACHE_HOME: "/b" })).toBe("/b/scholia");
  expect(cacheDir({})).toBe(join(homedir(), ".cache", "scholia"));
});

test("a relative or empty setting never yields a relative folder", () => {
  expect(cacheDir({ SCHOLIA_CACHE: "here" })).toBe(resolve("here"));
  expect(cacheDir({ SCHOLIA_CACHE: "", XDG_CACHE_HOME: "here" })).toBe(cacheDir({}));
});

test("the folders follow the environment of the moment", () => {
  vi.stubEnv("SCHOLIA_CACHE", "/moved");
  expect(modelsDir()).toBe("/moved/models");
  expect(nativeDir()).toMatch(/^\/moved\/native\/\d+\.\d+\.\d+$/);
});
