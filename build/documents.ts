// Real documents for tests and calibration: manuals, prose and code from Debian's packages, at one
// version each, so that page numbers and token counts in tests stay true. They are never in git.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { documentsDir, downloadsDir } from "../host/models/cache.ts";
import { needDiskSpace } from "./diskSpace.js";
import { fail, SetupError, say, step } from "./report.js";
import { mustRun, run } from "./run.js";
import { findProgram, updateDebianLists } from "./tools.ts";

interface DebianPackage {
  name: string;
  version: string;
  documents: Document[];
}

interface Document {
  /** Its name in the cache. */
  file: string;
  /** Where the package has it; unpacked when it ends in `.gz`. */
  member: string;
  sha256: string;
  /** For text that a program of the package prints: its arguments, run in `usr/lib`. */
  printedBy?: string[];
}

const manuals = "usr/share/R/doc/manual";
const policy = "usr/share/doc/debian-policy";
const reference = "usr/share/developers-reference";

const packages: DebianPackage[] = [
  {
    name: "r-doc-pdf",
    version: "4.2.2.20221110-2",
    documents: [
      {
        file: "r-faq.pdf",
        member: `${manuals}/R-FAQ.pdf`,
        sha256: "de8768520d4fb90dad64c28483ffb92dca7dd9d8dc8556905b35c2e62a939255",
      },
      {
        file: "r-data.pdf",
        member: `${manuals}/R-data.pdf`,
        sha256: "9381a39ffeb8545a745c2618ba955b4ae4e10b9c8373cd5bc1984fff8318f8ca",
      },
      {
        file: "r-lang.pdf",
        member: `${manuals}/R-lang.pdf`,
        sha256: "4a6120ba505021d7c208078b575fe3f5d5dc91636dcf17de8a4208adda90d7dc",
      },
      {
        file: "r-exts.pdf",
        member: `${manuals}/R-exts.pdf`,
        sha256: "792220b273d40e8629664d5dd0d6ae4151419d14f613a949aebe85b8c2a1f85c",
      },
      {
        file: "r-reference.pdf",
        member: `${manuals}/refman.pdf`,
        sha256: "9ed9a074639c58686620757dc7475c683a41ae0412a91f3b58e92e936dc92284",
      },
    ],
  },
  {
    name: "bzip2-doc",
    version: "1.0.8-5",
    documents: [
      {
        file: "bzip2.pdf",
        member: "usr/share/doc/bzip2/manual.pdf.gz",
        sha256: "1dd1f12b3dcb0894481708881ed8d052c769f3820c06839c702c8cfad973d7d3",
      },
    ],
  },
  {
    name: "libtasn1-doc",
    version: "4.19.0-2+deb12u1",
    documents: [
      {
        file: "libtasn1.pdf",
        member: "usr/share/doc/libtasn1-doc/libtasn1.pdf",
        sha256: "3917eb460d87e275f9792b3597029873fd77890ed3ccebe40bbc5a3a7ee516d3",
      },
    ],
  },
  {
    name: "debian-policy",
    version: "4.6.2.0",
    documents: [
      {
        file: "fhs.pdf",
        member: `${policy}/fhs/fhs-3.0.pdf.gz`,
        sha256: "53d239e569a2d7b31a74fa09d585368c0f5a164e4624723fa2894660dd10fd23",
      },
      {
        file: "fhs.txt",
        member: `${policy}/fhs/fhs-3.0.txt.gz`,
        sha256: "ec52379984c85fdeddea6fabd5a84c8c358016e4d7c616995c2b147451d127b3",
      },
      {
        file: "debian-policy.pdf",
        member: `${policy}/policy.pdf.gz`,
        sha256: "220f9366d6deb3984e84236f02f04bdd6275d6fe7b5587acd6c689dfeb99020f",
      },
      {
        file: "debian-policy.txt",
        member: `${policy}/policy.txt.gz`,
        sha256: "89dba06600463ed858b4ccd3bdf4e72452c512589f1029548346e5284eb71374",
      },
    ],
  },
  {
    name: "developers-reference",
    version: "12.18",
    documents: [
      {
        file: "developers-reference.pdf",
        member: `${reference}/developers-reference.pdf`,
        sha256: "88e5ac4d15444fd3adb821dc863bd91b820e99a27e65728e74975ab1752652f5",
      },
      {
        file: "developers-reference.txt",
        member: `${reference}/developers-reference.txt.gz`,
        sha256: "6e16d3fba905b0ac7636d34bd703512087a24063ab8e778abbdf8a76363bc95e",
      },
    ],
  },
  {
    name: "jargon-text",
    version: "4.4.7-4.1",
    documents: [
      {
        file: "jargon-file.txt",
        member: "usr/share/doc/jargon-text/jargon.txt.gz",
        sha256: "40dfb4b98191a670a09a183d5798d50f243d23fdbd1495dcc0aca2ce5895ba97",
      },
    ],
  },
  {
    name: "python3-pyparsing",
    version: "3.0.9-1",
    documents: [
      {
        file: "pyparsing.py",
        member: "usr/lib/python3/dist-packages/pyparsing/core.py",
        sha256: "bbc1a9b5013f1fac0c925f0e661c5e2b56803c80d75cd83075284e441c01552e",
      },
    ],
  },
  {
    name: "nlohmann-json3-dev",
    version: "3.11.2-2",
    documents: [
      {
        file: "nlohmann-json.hpp",
        member: "usr/include/nlohmann/json.hpp",
        sha256: "bbf96a24a8d59ef79467761e2a803537e1476909bb7d6baed23094a1833c088c",
      },
    ],
  },
  { name: "bible-kjv-text", version: "4.38", documents: [] },
  {
    // The text is compressed in the package before; this one's program prints it.
    name: "bible-kjv",
    version: "4.38",
    documents: [
      {
        file: "king-james-bible.txt",
        member: "usr/bin/bible",
        printedBy: ["-l80", "-p", ".", "gen1:1-rev22:21"],
        sha256: "ba7c84a755b5ecc052222311dc2d785cd6cf9c0875ca26fc31de1138501496d5",
      },
    ],
  },
];

/** Names of the documents that {@link fetchDocuments} brings. */
export const documentNames: string[] = packages.flatMap((p) => p.documents.map((d) => d.file));

const documentPath = (name: string): string => join(documentsDir(), name);
const documentsBytes = 100e6;

/**
 * Brings the documents into the cache. A machine without apt, or whose apt does not have these
 * versions, is told so in a line; the tests that read them are then skipped.
 */
export async function fetchDocuments(): Promise<void> {
  if (documentNames.every((name) => existsSync(documentPath(name)))) return;
  if (!findProgram("apt-get") || !findProgram("dpkg-deb")) {
    say("this machine has no apt: tests that read Debian's manuals are skipped.");
    return;
  }
  await needDiskSpace(documentsDir(), documentsBytes, "the documents that tests read");
  await step("Fetching real documents for tests (once, 17 MB)", async (progress) => {
    await mkdir(documentsDir(), { recursive: true });
    await mkdir(downloadsDir(), { recursive: true });
    const work = await mkdtemp(join(downloadsDir(), "documents-"));
    try {
      for (const debian of packages) {
        progress(debian.name);
        await fetchPackage(debian, work);
      }
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
}

/** All packages are unpacked to one folder: the Bible's text and its program come in two. */
async function fetchPackage(debian: DebianPackage, work: string): Promise<void> {
  const archive = await downloadPackage(debian, work);
  if (!archive) {
    say(`apt does not have ${debian.name} ${debian.version}: tests that read it are skipped.`);
    return;
  }
  const problem = `${debian.name} could not be unpacked: start again.`;
  await mustRun("dpkg-deb", ["-x", archive, work], { problem });
  for (const document of debian.documents) await keepDocument(document, work);
}

async function downloadPackage(
  { name, version }: DebianPackage,
  work: string,
): Promise<string | undefined> {
  const args = ["download", "-q", "-o", "APT::Sandbox::User=root", `${name}=${version}`];
  const download = () => run("apt-get", args, { cwd: work });
  if ((await download()).code !== 0) {
    await updateDebianLists();
    await download();
  }
  const file = (await readdir(work)).find((f) => f.startsWith(`${name}_`) && f.endsWith(".deb"));
  return file && join(work, file);
}

async function keepDocument(document: Document, work: string): Promise<void> {
  const content = await readDocument(document, work);
  if (!content) {
    say(`${document.file} could not be printed here: tests that read it are skipped.`);
    return;
  }
  if (createHash("sha256").update(content).digest("hex") !== document.sha256)
    throw new SetupError(
      `${document.file} is not the document that the tests were made with (its checksum differs): start again.`,
    );
  const partial = join(work, "document");
  await writeFile(partial, content);
  await rename(partial, documentPath(document.file));
}

async function readDocument(
  { member, printedBy }: Document,
  work: string,
): Promise<Buffer | undefined> {
  const path = join(work, member);
  if (printedBy) {
    const { code, stdout } = await run(path, printedBy, { cwd: join(work, "usr", "lib") });
    return code === 0 ? Buffer.from(stdout) : undefined;
  }
  const content = await readFile(path);
  return member.endsWith(".gz") ? gunzipSync(content) : content;
}

if (process.argv[1] === import.meta.filename) await fetchDocuments().catch(fail);
