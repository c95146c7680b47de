// node fetchChild.ts CATALOG ID: fetches a model as a process of its own, which tests kill or let run
// out of disk. Prints the error's code, if there is one.
import { readFileSync } from "node:fs";
import { ScholiaError } from "../../../contract/errors.ts";
import { parseCatalog } from "../../../host/models/catalog.ts";
import { fetchModel } from "../../../host/models/fetchModel.ts";

const [catalogPath = "", id = ""] = process.argv.slice(2);
const catalog = parseCatalog(JSON.parse(readFileSync(catalogPath, "utf8")));
try {
  console.log(await fetchModel(id, { catalog }));
} catch (error) {
  console.log(error instanceof ScholiaError ? error.code : error);
  process.exitCode = 1;
}
