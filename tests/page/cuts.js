// Cuts between a page and its server, at random: each is said to be one within fifteen seconds, and forgotten
// within five of the server's return, without a reload by hand.
//
// A proxy stands between Chromium and tallyd and cuts as it is told; tallyd itself is killed and started again.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const dgram = require("node:dgram");
const net = require("node:net");
const http = require("node:http");
const { becomes, launch, open } = require("./browser.js");

const { program, config, environment, port, count, seed } = JSON.parse(process.argv[2]);
const STALE_MS = 15000;
const LIVE_MS = 5000;
// A page that shares two cores with a dozen test programs may be late by its own fault.
const BUSY_MS = 10000;
const KINDS = ["killed", "502", "half-open", "sleep", "refused"];

let state = seed;
const random = () => {
  state = (state * 16807) % 2147483647;
  return state / 2147483647;
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** tallyd, as often as is wanted. */
class Server {
  async start() {
    this.child = spawn(program, ["run", "--config", config], { env: { ...process.env, ...environment }, stdio: "ignore" });
    const deadline = Date.now() + 30000;
    while (!(await this.answers())) {
      assert(Date.now() < deadline, "tallyd does not start");
      await sleep(20);
    }
  }

  answers() {
    return new Promise((resolve) => {
      const request = http.get({ port, host: "127.0.0.1", path: "/health/ready", timeout: 1000 }, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      });
      request.on("error", () => resolve(false));
      request.on("timeout", () => request.destroy());
    });
  }

  kill() {
    return new Promise((resolve) => {
      this.child.once("exit", resolve);
      this.child.kill("SIGKILL");
    });
  }
}

/** Passes bytes on, or says 502, or keeps connections open and passes nothing. */
class Proxy {
  constructor() {
    this.mode = "open";
    this.sockets = new Set();
    this.server = net.createServer((client) => this.take(client));
  }

  listen() {
    return new Promise((resolve) => this.server.listen(0, "127.0.0.1", () => resolve(this.server.address().port)));
  }

  take(client) {
    this.sockets.add(client);
    client.on("close", () => this.sockets.delete(client));
    client.on("error", () => client.destroy());
    if (this.mode === "half-open") return;
    if (this.mode === "refused") {
      client.destroy();
      return;
    }
    if (this.mode === "502") {
      client.on("data", () => client.end("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad"));
      return;
    }
    const upstream = net.connect(port, "127.0.0.1");
    upstream.on("error", () => client.destroy());
    upstream.on("close", () => this.mode === "half-open" || client.destroy());
    client.on("close", () => upstream.destroy());
    client.on("data", (bytes) => {
      if (this.mode === "no streams" && bytes.includes("GET /api/v1/live?")) client.end("HTTP/1.1 503 No Streams\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      else if (this.mode !== "half-open") upstream.write(bytes);
    });
    upstream.on("data", (bytes) => this.mode === "half-open" || client.write(bytes));
  }

  cut(mode) {
    this.mode = mode;
    // Half-open: nobody is told. Else connections end, as those of a proxy do whose server is gone.
    if (mode !== "half-open") for (const socket of this.sockets) socket.destroy();
  }

  restore() {
    const stuck = this.mode === "half-open" ? [...this.sockets] : [];
    this.mode = "open";
    return stuck;
  }
}

async function cut(kind, { page, proxy, server }) {
  const away = 500 + random() * (count > 10 ? 20000 : 6000);
  const from = Date.now();
  if (kind === "killed") await server.kill();
  else if (kind === "sleep") {
    proxy.cut("half-open");
    await page.clock.fastForward(3600000);
  } else proxy.cut(kind);
  if (kind === "half-open") {
    await becomes(page, "late", STALE_MS);
    assert.match(await page.locator("#health").innerText(), /^\d+ s behind$/);
  }
  await becomes(page, "stale", STALE_MS + BUSY_MS);
  const stale = Date.now() - from;
  const told = await page.locator("#banner").innerText();
  assert.match(told, /^Not live since \d\d:\d\d:\d\d, trying again/);
  assert.match(await page.title(), /^\(stale\) /);
  const drawn = await page.evaluate(() => {
    const style = getComputedStyle(document.querySelector(".num"));
    return `${style.textDecorationLine} ${style.outlineStyle}`;
  });
  assert.equal(drawn, "line-through dashed", "what is stale looks so");
  assert.match(await page.locator("#say").textContent(), /^Connection lost\. Not live since \d\d:\d\d:\d\d\.$/);
  await sleep(Math.max(0, away - stale));
  if (kind === "killed") await server.start();
  else proxy.restore();
  const back = Date.now();
  await becomes(page, "live", LIVE_MS + BUSY_MS);
  const live = Date.now() - back;
  assert(!(await page.title()).startsWith("(stale)"));
  assert(await page.locator("#banner").isHidden());
  assert.match(await page.locator("#say").textContent(), /^Live again\. /);
  return { kind, away: Math.round(away), stale, live };
}

/** A proxy that lets no stream through: the page asks, and is live all the same. */
async function asksWithoutStreams(browser, proxy, address) {
  proxy.cut("no streams");
  const page = await open(browser, {}, [/net::ERR_|Failed to load resource/]);
  await page.goto(address);
  await page.waitForFunction(() => document.getElementById("age").textContent === "data every few seconds");
  const socket = dgram.createSocket("udp4");
  socket.send("polled:7|c", Number(environment.TALLYD_INGEST_UDP.split(":").pop()), "127.0.0.1");
  await page.waitForFunction(() => document.querySelector(".hero .val")?.textContent === "7");
  socket.close();
  assert(await page.evaluate(() => document.documentElement.classList.contains("page-live")));
  // The stream is taken up again as soon as it is let through.
  proxy.restore();
  await page.waitForFunction(() => document.getElementById("age").textContent.startsWith("data 0 s"));
  await page.assertClean();
  await page.context().close();
}

(async () => {
  const server = new Server();
  await server.start();
  const proxy = new Proxy();
  const address = `http://127.0.0.1:${await proxy.listen()}/`;
  const browser = await launch();
  // A connection that breaks is what this is about; the browser says so on its console.
  const page = await open(browser, { viewport: { width: 1440, height: 900 } }, [/net::ERR_|Failed to load resource/]);
  try {
    await page.clock.install();
    await page.goto(address);
    await becomes(page, "live");
    await page.evaluate(() => {
      window.neverReloaded = true;
    });
    const cuts = [];
    for (let index = 0; index < count; index += 1) {
      const done = await cut(KINDS[index % KINDS.length], { page, proxy, server });
      console.log(JSON.stringify(done));
      cuts.push(done);
      await sleep(random() * 2000);
    }
    assert.equal(await page.evaluate(() => window.neverReloaded), true, "the page was loaded again");
    await page.assertClean();
    await asksWithoutStreams(browser, proxy, address);
    const worst = (name) => Math.max(...cuts.map((done) => done[name]));
    console.log(JSON.stringify({ cuts: cuts.length, stale_ms: worst("stale"), live_ms: worst("live") }));
  } finally {
    await browser.close();
    server.child.kill("SIGKILL");
    proxy.server.close();
    proxy.cut("refused");
  }
})().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
