/** The host process: documents, reads, answers, one engine. Forked by a shell, which it serves over
 * its IPC channel; it ends with the shell. */
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { type ErrorValue, ScholiaError, toErrorValue } from "../contract/errors.ts";
import { ask, type LiveChat } from "./answer/ask.ts";
import { bench } from "./answer/bench.ts";
import { appendTurn, createChat, loadTurns } from "./answer/chats.ts";
import {
  createHostServer,
  parentProcessPort,
  type RequestHandlers,
  type RunHandlers,
} from "./channel.ts";
import { checkMachine } from "./doctor.ts";
import { probeModel } from "./engine/probeModel.ts";
import { calibrate } from "./kv/calibrate.ts";
import { findModel } from "./models/catalog.ts";
import { fetchModel } from "./models/fetchModel.ts";
import { headTable } from "./models/headTable.ts";
import { listModels } from "./models/listModels.ts";
import { downloadProgress, modelFile } from "./models/modelFile.ts";
import { OpenDocuments, read } from "./prefill/readDocument.ts";
import { chooseProfile, EngineRoom, type ResidentEngine } from "./residentEngine.ts";

const { values } = parseArgs({ options: { data: { type: "string" } } });
const dataDir = values.data;
if (dataDir === undefined) throw new Error("usage: main.ts --data DIR, forked with an IPC channel");
await mkdir(dataDir, { recursive: true });

const room = new EngineRoom(dataDir);
const documents = new OpenDocuments();
/** The chat of the last answer: its next turn goes on from there. */
let live: LiveChat | null = null;

/** Routes of the window whose handlers are still to be written. */
const later = async (): Promise<never> => {
  throw new ScholiaError("internal", "This route is not there yet.");
};

const requests: RequestHandlers = {
  "host.diagnostics": later,
  "models.remove": later,
  "heads.curves": later,
  "documents.list": later,
  "documents.add": later,
  "documents.remove": later,
  "documents.rename": later,
  "document.page": later,
  "document.picture": later,
  "document.find": later,
  "reads.list": later,
  "reads.pin": later,
  "reads.remove": later,
  "queue.list": later,
  "queue.add": later,
  "queue.pause": later,
  "queue.resume": later,
  "queue.cancel": later,
  "queue.first": later,
  "chats.list": later,
  "chat.get": later,
  "chat.rename": later,
  "chat.remove": later,
  "chat.show": later,
  "chat.readMap": later,
  "chat.export": later,
  "memory.map": later,
  "rates.list": later,
  "settings.get": later,
  "settings.set": later,
  "runs.list": async () => server.runs(),
  "host.hello": async () => ({ version: packageVersion(), pid: process.pid }),
  "host.check": (settings) => checkMachine(settings, dataDir),
  "models.list": () => listModels(),
  "heads.list": async (settings) => {
    const { path } = await modelFile(settings.model, { fetch: false });
    const model = await probeModel(path);
    return headTable(model, await chooseProfile(settings.profile, model, dataDir, { notice() {} }));
  },
  "chat.open": async ({ path = "", pages, chatId }) => {
    if (chatId === undefined)
      return { chatId: await createChat(dataDir, { path, pages }), turns: [] };
    return { chatId, turns: await loadTurns(dataDir, chatId) };
  },
};

// Documents are opened before the engine: what is wrong with a file is said at once.
const runs: RunHandlers = {
  "document.open": later,
  "document.preflight": later,
  "document.read": async (input, sink) => {
    const { path = "" } = input;
    const document = await documents.open(path, input.pages, sink);
    return room.use(input, sink, (resident) =>
      read({ ...input, path }, document, resident, documents, room, sink),
    );
  },

  "answer.ask": async (input, sink) => {
    const started = performance.now();
    const { path = "" } = input;
    const question = { ...input, path };
    const document = await documents.open(path, input.pages, sink);
    const opened = { document, seconds: (performance.now() - started) / 1000 };
    return room.use(input, sink, async (resident) => {
      const { chatId } = input;
      if (chatId === undefined) {
        return (await ask(question, opened, resident, documents, dataDir, sink)).answer;
      }
      const chat = {
        chatId,
        turns: await loadTurns(dataDir, chatId),
        live: await takeLive(chatId, resident),
      };
      const { answer, live: now } = await ask(
        question,
        opened,
        resident,
        documents,
        dataDir,
        sink,
        chat,
      );
      live = now;
      await appendTurn(dataDir, chatId, { question: input.question, ...answer }).catch(
        (error: unknown) =>
          sink.notice(`The chat could not be saved: ${toErrorValue(error).message}`),
      );
      return answer;
    });
  },

  "heads.calibrate": (input, sink) =>
    room.use(input, sink, (resident) => calibrate(input, resident, documents, dataDir, sink)),

  "bench.run": (input, sink) =>
    room.use(input, sink, (resident) => bench(input, resident.engine, sink)),

  "models.get": async ({ id }, sink) => {
    const { name } = findModel(id);
    let bytes = 0;
    const report = downloadProgress(name, (progress) => sink.progress(progress));
    const path = await fetchModel(id, {
      signal: sink.signal,
      onProgress: (progress) => {
        bytes = progress.totalBytes;
        report(progress);
      },
    });
    return { id, path, bytes };
  },
};

/** The sequence of this chat's last turn; another chat's is given up. */
async function takeLive(chatId: string, { engine }: ResidentEngine): Promise<LiveChat | null> {
  const taken = live;
  live = null;
  if (taken === null || taken.engine !== engine) return null;
  if (taken.chatId === chatId) return taken;
  await engine.release(taken.sequence);
  return null;
}

const server = createHostServer(requests, runs, { onCloseAsked: () => void leave(0) });
server.serve(parentProcessPort());
server.announce({ kind: "ready", pid: process.pid });

// Ctrl+C in a terminal reaches the whole group: the shell decides what it means.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.once("disconnect", () => void leave(0));
process.on("uncaughtException", (error) => fail(error));
process.on("unhandledRejection", (error) => fail(error));

function fail(error: unknown) {
  const value: ErrorValue = toErrorValue(error);
  process.stderr.write(`${error instanceof Error ? error.stack : value.message}\n`);
  server.announce({ kind: "exiting", error: value });
  process.exit(1);
}

let leaving = false;
/** Stops the runs at their next chunk or token, frees the engine, and ends. */
async function leave(code: number) {
  if (leaving) return;
  leaving = true;
  await server.close();
  await room.close();
  process.exit(code);
}

function packageVersion(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
