// `tallyd demo` as somebody sees it who has just built it: how long until a number moves in a browser, and, where
// they are wanted, the pictures of docs/pictures, with the demo's weeks behind them.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const path = require("node:path");
const { DEADLINE_MS, SIZES, becomes, launch, open } = require("./browser.js");
const { shrink } = require("./shrink.js");

const { program, images } = JSON.parse(process.argv[2]);
// Afternoons to choose from, so that half of the day is drawn whenever pictures are made.
const ZONES = [
  "Europe/Paris", "Europe/Athens", "America/New_York", "America/Los_Angeles", "Asia/Tokyo", "Australia/Sydney",
  "Asia/Kolkata", "America/Sao_Paulo", "Asia/Dubai", "Asia/Shanghai", "Pacific/Auckland", "Pacific/Honolulu",
  "America/Chicago", "America/Denver", "Asia/Karachi", "Asia/Bangkok", "America/Anchorage", "Pacific/Noumea",
];
const AFTERNOON = 14.5;
const PICTURES = SIZES.map((size) => ({ ...size, whole: size.name === "phone" }));

/** The zone in which it is closest to half past two. */
function afternoon() {
  const far = (zone) => {
    const [hour, minute] = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: zone })
      .format(Date.now()).split(":").map(Number);
    return Math.abs(hour + minute / 60 - AFTERNOON);
  };
  return ZONES.reduce((best, zone) => (far(zone) < far(best) ? zone : best));
}

/** Starts the demo; resolves to its process and the page's address, as it prints it. */
function start() {
  // Without what the tests' own environment sets of tallyd.
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TALLYD_")));
  if (images) environment.TALLYD_COMPANY_TIMEZONE = afternoon();
  const child = spawn(program, ["demo"], { env: environment, stdio: ["ignore", "pipe", "inherit"] });
  const address = new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (text) => {
      said += text;
      const found = /the page +(http:\/\/\S+\/)/.exec(said);
      if (found) resolve(found[1]);
    });
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the demo ended with ${code}: ${said}`)));
  });
  return { child, address };
}

/** Ends it as Ctrl-C does, so that it takes its folder with it. */
function stop({ child, address }) {
  address.catch(() => {});
  return new Promise((resolve) => {
    child.once("exit", resolve);
    if (child.exitCode !== null) resolve();
    child.kill("SIGINT");
  });
}

/** The page has the four weeks: comparisons, goals with a pace, what is usual. */
async function remembers(page) {
  const hero = (await page.locator(".hero").innerText()).replace(/\s+/g, " ");
  assert.match(hero, /[+−]\d.* vs last \w{3} by \d\d:\d\d/);
  assert.match(hero, /vs yesterday by \d\d:\d\d/);
  assert.match(hero, /usual by now [\d,]+/);
  assert.equal(await page.locator(".is-never, .empty").count(), 0);
}

async function keep(page, name, whole) {
  const file = path.join(images, `page-${name}.png`);
  await page.screenshot({ path: file, fullPage: whole, animations: "disabled" });
  shrink(file);
}

async function picture(browser, address, { name, width, height, query, whole }) {
  // Without motion: no number is half in its place.
  const page = await open(browser, { viewport: { width, height }, colorScheme: "light", reducedMotion: "reduce" });
  await page.goto(address + (query ?? ""));
  await becomes(page, "live");
  await page.waitForFunction(() => document.querySelectorAll("#ticker li").length >= 20, null, { timeout: 4 * DEADLINE_MS });
  await keep(page, name, whole);
  await page.assertClean();
  await page.context().close();
}

async function details(browser, address) {
  const page = await open(browser, { viewport: { width: 1440, height: 1100 }, colorScheme: "light", reducedMotion: "reduce" });
  await page.goto(`${address}live/money`);
  await becomes(page, "live");
  await page.locator('[data-key="plans"] summary').click();
  await keep(page, "details");
  await page.context().close();
}

(async () => {
  const browser = await launch();
  const page = await open(browser, { viewport: { width: 1440, height: 900 } });
  const from = Date.now();
  const demo = start();
  try {
    const address = await demo.address;
    const printed = Date.now() - from;
    // However early it is asked for, the page as the server draws it has its numbers, or says that it will; it never
    // says that there are none.
    assert.match(await (await fetch(address)).text(), /<span class="val">\d|<h2>Starting</, "the first paint");
    await page.goto(address, { timeout: DEADLINE_MS });
    // Any number: at night it takes a while until somebody signs up.
    await page.waitForFunction(() => /\d/.test(document.querySelector(".hero .val")?.textContent));
    const shown = await page.locator(".val").allTextContents();
    await page.waitForFunction((before) => {
      const values = [...document.querySelectorAll(".val")].map((value) => value.textContent);
      return values.length === before.length && values.some((value, at) => value !== before[at]);
    }, shown);
    const moved = Date.now() - from;
    await becomes(page, "live");
    await remembers(page);
    await page.assertClean();
    if (images) {
      for (const size of PICTURES) await picture(browser, address, size);
      await details(browser, address);
    }
    console.log(JSON.stringify({ printed_ms: printed, moved_ms: moved }));
  } finally {
    await stop(demo);
    await browser.close();
  }
})().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
