// `npm run native`: the set-up of `npm start` and nothing else.
import { fail } from "./report.js";
import { setUp } from "./setUp.ts";

await setUp().catch(fail);
