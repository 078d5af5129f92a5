// One state of a page on an address of its own: the page as the server drew it, its files, and its stream.
"use strict";

const { readFileSync } = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const TYPES = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json" };

/**
 * Serves `shown.case`, whatever that is when it is asked for. `shown.tell` says the state again to whoever listens,
 * `shown.end` ends their streams.
 */
function serve(shown, { policy, files }) {
  const streams = new Set();
  const whole = () => `event: state\ndata: ${JSON.stringify(shown.case.state)}\n\n`;
  shown.tell = () => streams.forEach((stream) => stream.write(whole()));
  shown.end = () => streams.forEach((stream) => stream.end());
  const answer = (request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    const asked = url.searchParams;
    if (url.pathname === "/") {
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy });
      response.end(asked.get("tv") ? shown.case.tv : asked.get("dark") ? shown.case.dark : shown.case.html);
    } else if (url.pathname === "/api/v1/live") {
      response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
      response.write(whole());
      const timer = setInterval(() => response.write(`event: beat\ndata: {"at_ms": ${shown.case.state.at_ms}}\n\n`), 1000);
      streams.add(response);
      response.on("close", () => {
        clearInterval(timer);
        streams.delete(response);
      });
    } else if (url.pathname === "/api/v1/live.json") {
      // Asked for where this machine is so busy that beats are late.
      response.writeHead(200, { "Content-Type": "application/json" });
      response.end(JSON.stringify(shown.case.state));
    } else if (url.pathname.startsWith("/assets/")) {
      const name = path.basename(url.pathname);
      response.writeHead(200, { "Content-Type": TYPES[path.extname(name)] });
      response.end(readFileSync(path.join(files, name)));
    } else {
      response.writeHead(503);
      response.end();
    }
  };
  return new Promise((resolve) => {
    const server = http.createServer(answer).listen(0, "127.0.0.1", () => resolve(server));
  });
}

module.exports = { serve };
