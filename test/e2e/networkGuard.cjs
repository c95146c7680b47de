// Loaded into every process of Node that a test starts (NODE_OPTIONS): connections to other machines are
// refused and written down. CommonJS, for the Node of the oldest Electron loads it, too.
// @ts-nocheck: the patched functions take whatever their callers hand over.
const dgram = require("node:dgram");
const dns = require("node:dns");
const { appendFileSync } = require("node:fs");
const net = require("node:net");

const record = process.env.SCHOLIA_TEST_NETWORK;
const isHere = (host) => /^(localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0|::|)$/.test(host ?? "");

function refuse(what) {
  if (record !== undefined) appendFileSync(record, `${what} (process ${process.argv.join(" ")})\n`);
  return Object.assign(new Error(`a test lets nothing leave the machine: ${what}`), {
    code: "ECONNREFUSED",
  });
}

const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...args) {
  // Node's own callers hand over their arguments as one list.
  const [target, port] = Array.isArray(args[0]) ? args[0] : args;
  const { host, path } = typeof target === "object" ? target : { host: port };
  if (path !== undefined || typeof host !== "string" || isHere(host)) {
    return connect.apply(this, args);
  }
  const error = refuse(`connect ${host}`);
  process.nextTick(() => this.destroy(error));
  return this;
};

const { lookup } = dns;
dns.lookup = (host, ...rest) => {
  if (isHere(host) || net.isIP(host) !== 0) return lookup(host, ...rest);
  const error = refuse(`look up ${host}`);
  process.nextTick(rest.at(-1), error);
};

const { send } = dgram.Socket.prototype;
dgram.Socket.prototype.send = function (...args) {
  const host = args.find((arg) => typeof arg === "string" && (net.isIP(arg) || isHere(arg)));
  if (host === undefined || isHere(host)) return send.apply(this, args);
  throw refuse(`send to ${host}`);
};
