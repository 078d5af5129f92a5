// A screen on the wall: kept awake, moved against burn-in, dimmed at night, loaded again before the morning. Hours are
// those of the states that it is told, its own time is turned by hand. See tests/it/page/drawn.rs.
"use strict";

const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const { becomes, launch, open } = require("./browser.js");
const { serve } = require("./served.js");

const input = JSON.parse(process.argv[2]);
const whole = JSON.parse(readFileSync(input.cases, "utf8")).find((known) => known.name === "whole");
const SHIFT_MS = 180000;
const shown = { case: whole };

/** What the page is told the time is, as often as it takes until it has heard of it. */
async function tell(page, day, clock) {
  shown.case = { ...shown.case, state: { ...shown.case.state, day, clock, version: shown.case.state.version + 1, at_ms: shown.case.state.at_ms + 1000 } };
  shown.tell();
  await page.waitForFunction((version) => window.heard?.version === version, shown.case.state.version);
}

/** Keeps the newest state that came over a stream, beside what the page does with it. */
function listen() {
  const add = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function addEventListener(name, use) {
    add.call(this, name, (event) => {
      use(event);
      if (name === "state") window.heard = JSON.parse(event.data);
    });
  };
}

/** Notes what becomes of each lock, and lets a test hide the page as a switch to another tab would. */
function watchLocks() {
  window.locks = [];
  const request = WakeLock.prototype.request;
  WakeLock.prototype.request = async function noted(kind) {
    const lock = { kind, state: "asked" };
    window.locks.push(lock);
    try {
      const given = await request.call(this, kind);
      lock.state = "held";
      lock.given = given;
      given.addEventListener("release", () => {
        lock.state = "released";
      });
      return given;
    } catch (error) {
      lock.state = error.name;
      throw error;
    }
  };
}

const locks = (page) => page.evaluate(() => window.locks.map(({ kind, state }) => `${kind} ${state}`));
const locked = (page, wanted) => page.waitForFunction(
  (states) => window.locks.map(({ kind, state }) => `${kind} ${state}`).join() === states, wanted.join());

/** Chromium's own way to say whether a lock is given. */
async function permit(browser, page, setting) {
  const session = await browser.newBrowserCDPSession();
  const { targetInfo } = await (await page.context().newCDPSession(page)).send("Target.getTargetInfo");
  await session.send("Browser.setPermission", {
    permission: { name: "screen-wake-lock" }, setting, origin: shown.address, browserContextId: targetInfo.browserContextId,
  });
}

/** Hidden or seen, as far as the page can tell. A lock goes when it is hidden: so the standard says. */
const hide = (page, hidden) => page.evaluate(async (value) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
  if (value) await Promise.all(window.locks.filter((lock) => lock.state === "held").map((lock) => lock.given.release()));
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);

async function staysAwake(browser) {
  const page = await open(browser, { viewport: { width: 1920, height: 1080 } });
  await page.addInitScript(watchLocks);
  await permit(browser, page, "granted");
  await page.goto(`${shown.address}/`);
  await becomes(page, "live");
  assert.deepEqual(await locks(page), [], "who only looks at a page does not keep the screen on");
  await page.goto(`${shown.address}/?tv=1`);
  await becomes(page, "live");
  await locked(page, ["screen held"]);
  await hide(page, true);
  await locked(page, ["screen released"]);
  await hide(page, false);
  await locked(page, ["screen released", "screen held"]);
  await page.assertClean();
  await page.context().close();
}

/** Where it is not granted, or the browser has none (over plain HTTP from elsewhere), the page is the same. */
async function livesWithoutALock(browser) {
  const refused = await open(browser, {});
  await refused.addInitScript(watchLocks);
  await permit(browser, refused, "denied");
  await refused.goto(`${shown.address}/?tv=1`);
  await becomes(refused, "live");
  await locked(refused, ["screen NotAllowedError"]);
  await refused.assertClean();
  await refused.context().close();
  const without = await open(browser, {});
  await without.addInitScript(() => {
    delete Navigator.prototype.wakeLock;
  });
  await without.goto(`${shown.address}/?tv=1`);
  await becomes(without, "live");
  assert.equal(await without.evaluate(() => navigator.wakeLock), undefined);
  await without.assertClean();
  await without.context().close();
}

/** A television whose time stands still but for `page.clock`. */
async function television(browser, query = "?tv=1") {
  const page = await open(browser, { viewport: { width: 1920, height: 1080 } });
  page.loads = 0;
  page.on("load", () => {
    page.loads += 1;
  });
  await page.addInitScript(listen);
  await page.clock.install();
  await page.goto(`${shown.address}/${query}`);
  await becomes(page, "live");
  return page;
}

/** Every three minutes a pixel, round a circle that ends where it began; nothing is cut off by it. */
async function moves(browser) {
  const page = await television(browser);
  const place = () => page.evaluate(() => {
    // What stands below it moves for other reasons too.
    const { x, y } = document.querySelector("header").getBoundingClientRect();
    return [x, y];
  });
  const [x, y] = await place();
  const seen = [];
  for (let step = 0; step < 8; step += 1) {
    await page.clock.fastForward(SHIFT_MS);
    const [nowX, nowY] = await place();
    seen.push(`${Math.round(nowX - x)} ${Math.round(nowY - y)}`);
    const [wide, high] = await page.evaluate(() => [document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]);
    assert(wide <= 1 && high <= 1, `${wide} and ${high} pixels too many`);
  }
  assert.equal(seen.at(-1), "0 0", `it does not come back: ${seen}`);
  assert.equal(new Set(seen).size, 8, `${seen}`);
  assert(seen.every((shift) => shift.split(" ").every((part) => Math.abs(part) <= 2)), `${seen}`);
  await becomes(page, "live");
  await page.assertClean();
  await page.context().close();
}

async function dims(browser) {
  const brightness = (page) => page.evaluate(() => getComputedStyle(document.body).filter);
  for (const [query, night, day] of [
    ["?tv=1", ["22:00", "23:59", "00:00", "05:59"], ["21:59", "06:00", "12:00"]],
    ["?tv=1&night=1-3", ["01:00", "02:59"], ["00:59", "03:00", "22:00"]],
    ["?tv=1&night=no", [], ["23:00", "03:00"]],
    ["", [], ["23:00"]],
  ]) {
    const page = await television(browser, query);
    for (const [clocks, expected] of [[night, "brightness(0.45)"], [day, "none"], [night, "brightness(0.45)"]]) {
      for (const clock of clocks) {
        await tell(page, "2026-11-23", clock);
        await page.clock.runFor(1000);
        assert.equal(await brightness(page), expected, `${query} at ${clock}`);
      }
    }
    await page.assertClean();
    await page.context().close();
  }
}

/** Once each night at four, and never in a circle. */
async function loadsItselfAgain(browser) {
  const page = await television(browser);
  const loadsAfter = async (day, clock, expected) => {
    await tell(page, day, clock);
    await page.clock.runFor(1000);
    const deadline = Date.now() + 30000;
    while (page.loads < expected && Date.now() < deadline) await page.waitForTimeout(50);
    await becomes(page, "live");
    // Half a minute after the last time it would dare to try again.
    await page.clock.runFor(45000);
    assert.equal(page.loads, expected, `${day} ${clock}`);
  };
  await loadsAfter("2026-11-23", "14:05", 1);
  await loadsAfter("2026-11-24", "03:59", 1);
  await loadsAfter("2026-11-24", "04:00", 2);
  await loadsAfter("2026-11-24", "04:01", 2);
  await loadsAfter("2026-11-24", "14:05", 2);
  await loadsAfter("2026-11-25", "04:00", 3);
  await page.assertClean();
  await page.context().close();
}

(async () => {
  const server = await serve(shown, input);
  shown.address = `http://127.0.0.1:${server.address().port}`;
  const browser = await launch();
  try {
    await staysAwake(browser);
    await livesWithoutALock(browser);
    await moves(browser);
    await dims(browser);
    await loadsItselfAgain(browser);
  } finally {
    await browser.close();
    server.closeAllConnections();
    server.close();
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
