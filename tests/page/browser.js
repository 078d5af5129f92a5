// Chromium for the tests of the page, and what every page of theirs is held to: nothing on the console, no request
// to anywhere else, no broken rule of its policy.
"use strict";

const assert = require("node:assert/strict");
const { existsSync } = require("node:fs");
const { chromium } = require("playwright-core");

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
const DEADLINE_MS = 30000;

async function launch() {
  const executablePath = PLACES.find((place) => existsSync(place));
  assert(executablePath, "Chromium is missing: run tests/setup");
  // Tests run as root in containers, where Chromium's sandbox does not; what it opens is ours.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
}

/** A page in a context of its own. `allowed` are complaints of the browser that a test provokes. */
async function open(browser, options = {}, allowed = []) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const complaints = [];
  const elsewhere = [];
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol !== "data:" && hostname !== "127.0.0.1") elsewhere.push(request.url());
  });
  await page.addInitScript(() => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => {
      window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  page.assertClean = async () => {
    assert.deepEqual(complaints.filter((text) => !allowed.some((known) => known.test(text))), [], "the console");
    assert.deepEqual(elsewhere, [], "requests elsewhere");
    assert.deepEqual(await page.evaluate(() => window.violations), [], "the policy");
    assert.equal(await page.evaluate(() => window.hacked), undefined, "a text ran");
  };
  return page;
}

/** Waits until `health` is what the page says of itself. */
async function becomes(page, health, timeout = DEADLINE_MS) {
  await page.waitForSelector(`html.page-${health}`, { state: "attached", timeout });
  if (health === "live") await page.waitForFunction(() => document.getElementById("health").textContent === "live", null, { timeout });
}

/** Windows the page is looked at in. */
const SIZES = [
  { name: "phone", width: 320, height: 690 },
  { name: "phone-dark", width: 390, height: 844, query: "?dark=1" },
  { name: "tablet", width: 834, height: 1112 },
  { name: "laptop", width: 1440, height: 900 },
  { name: "laptop-dark", width: 1440, height: 900, query: "?dark=1" },
  { name: "wide", width: 3840, height: 2160 },
  { name: "tv", width: 1920, height: 1080, query: "?tv=1&dark=1" },
];

module.exports = { DEADLINE_MS, SIZES, becomes, launch, open };
