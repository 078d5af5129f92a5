// Sends pseudo-random operations through the unmodified npm package "hot-shots".
//
// Usage: node send_hotshots.js HOST PORT SEED COUNT
//
// Prints one JSON line per operation, {"kind", "name", "tags", "value"}: what was meant, from which the test
// makes its own tally. Lines are buffered into datagrams, histograms and distributions are timers to us, and
// the pace is kept below what loopback could drop.
"use strict";

const StatsD = require("hot-shots");

const PREFIX = "hotshots.";
const NAMES = ["orders", "checkout.cart-top"];
const SHOPS = ["paris", "la_rochelle"];
const PLANS = ["pro"];
const METHODS = ["increment", "decrement", "timing", "histogram", "distribution", "gauge", "gaugeDelta", "set"];
const KINDS = { increment: "counter", decrement: "counter", gauge: "gauge", gaugeDelta: "gauge_delta", set: "set" };
const PAUSE_EVERY = 20;
const PAUSE_MS = 1;

const [host, port, seed, count] = [process.argv[2], ...process.argv.slice(3).map(Number)];

// mulberry32: small, and the same on every machine.
let state = seed;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}

function choose(list) {
  return list[Math.floor(random() * list.length)];
}

// None, one or two tags, in either order: the series does not depend on it.
function pickTags() {
  const tags = [["shop", choose(SHOPS)], ["plan", choose(PLANS)]];
  if (random() < 0.5) tags.reverse();
  return tags.slice(0, Math.floor(random() * 3));
}

function pickValue(kind) {
  if (kind === "counter") return choose([1, 1, 1, 5, 0.2, 70000]);
  if (kind === "set") return `user-${Math.floor(random() * 150)}`;
  if (kind === "gauge_delta") return choose([1, -1, 12.5, -40]);
  return Math.round(random() * 400000) / 1000;
}

function sendOne(client) {
  const method = choose(METHODS);
  const kind = KINDS[method] ?? "timer";
  // A gauge and its deltas are one series; each of the timers' methods has names of its own.
  const stem = kind === "timer" ? method : kind.replace("_delta", "");
  const name = `${stem}.${choose(NAMES)}`;
  const tags = pickTags();
  const value = pickValue(kind);
  client[method](name, value, tags.map(([key, text]) => `${key}:${text}`));
  const meant = { kind, name: PREFIX + name, tags: Object.fromEntries(tags), value };
  if (method === "decrement") meant.value = -value;
  process.stdout.write(JSON.stringify(meant) + "\n");
}

async function main() {
  const client = new StatsD({ host, port, prefix: PREFIX, maxBufferSize: 1000, errorHandler: fail });
  for (let number = 0; number < count; number += 1) {
    sendOne(client);
    if (number % PAUSE_EVERY === 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  client.close((error) => error && fail(error));
}

function fail(error) {
  process.stderr.write(`${error}\n`);
  process.exitCode = 1;
}

main();
