// States of a page, drawn by the server, put before Chromium. See tests/it/page/drawn.rs.
"use strict";

const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const { SIZES, becomes, launch, open } = require("./browser.js");
const { serve } = require("./served.js");

const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const input = JSON.parse(process.argv[2]);
const cases = JSON.parse(readFileSync(input.cases, "utf8"));

/** What the page's scripts changed of what the server had drawn. */
function watchForChanges() {
  window.changes = [];
  document.addEventListener("DOMContentLoaded", () => {
    const observer = new MutationObserver((records) => {
      for (const record of records) {
        const node = record.target.nodeType === Node.TEXT_NODE ? record.target.parentElement : record.target;
        if (node?.closest("#health, #age, #banner, #say, #pause, title")) continue;
        const nodes = (list) => [...list].map((item) => item.outerHTML ?? item.data).join("|");
        window.changes.push(`${record.type} ${record.attributeName ?? ""} in ${node?.outerHTML.slice(0, 200)}: -${nodes(record.removedNodes)} +${nodes(record.addedNodes)}`);
      }
    });
    observer.observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributes: true });
  });
}

const seen = (page) => page.evaluate(() => document.body.innerText.replace(/\s+/g, " "));

async function withoutScripts(browser, address, shown) {
  const page = await open(browser, { javaScriptEnabled: false, viewport: { width: 1440, height: 900 } });
  await page.goto(address);
  const text = (await page.locator("body").innerText()).replace(/\s+/g, " ");
  for (const word of shown.case.words) assert(text.includes(word), `${shown.case.name} without scripts: no "${word}" in ${text}`);
  await page.context().close();
}

async function withScripts(browser, address, shown) {
  const page = await open(browser, { viewport: { width: 1440, height: 900 }, colorScheme: "light" });
  await page.addInitScript(watchForChanges);
  await page.goto(address);
  await becomes(page, "live");
  const changes = await page.evaluate(() => window.changes);
  assert.deepEqual(changes, [], `${shown.case.name}: the scripts draw it otherwise than the server`);
  const text = await seen(page);
  for (const word of shown.case.words) assert(text.includes(word), `${shown.case.name}: no "${word}" in ${text}`);
  await accessible(page, shown.case.name);
  await fits(page, shown.case.name);
  await page.assertClean();
  await page.context().close();
}

async function accessible(page, name) {
  // playwright's own way in, which the page's policy does not bind.
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  const said = found.violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => `${node.html} ${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(said, [], `${name}: axe`);
}

async function fits(page, name) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert(wide <= window, `${name}: ${wide} pixels wide in a window of ${window}`);
}

async function sizes(browser, address, shown) {
  for (const size of SIZES) {
    const label = `${shown.case.name} on ${size.name}`;
    const page = await open(browser, { viewport: { width: size.width, height: size.height }, colorScheme: "light" });
    await page.goto(address + (size.query ?? ""));
    await becomes(page, "live");
    await fits(page, label);
    await accessible(page, label);
    const hero = await page.evaluate(() => parseFloat(getComputedStyle(document.querySelector(".hero .num")).fontSize));
    if (size.width < 700) assert(hero >= 96, `${label}: the hero is ${hero} pixels high`);
    if (size.name === "tv") {
      assert(hero >= 0.2 * size.height, `${label}: the hero is ${hero} pixels high`);
      const outside = await page.evaluate(() => [...document.querySelectorAll("main *, footer *")].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.height > 0 && !node.closest("#ticker, .hush") && (box.bottom > innerHeight || box.right > innerWidth);
      }).map((node) => node.outerHTML.slice(0, 120)));
      assert.deepEqual(outside, [], `${label}: cut off`);
      const overlaps = await page.evaluate(() => document.querySelector(".lead").getBoundingClientRect().bottom
        - (document.querySelector(".groups")?.getBoundingClientRect().top ?? Infinity));
      assert(overlaps <= 0, `${label}: rows overlap by ${overlaps} pixels`);
    }
    // Text at twice its size, as a reader of the page may set it.
    if (!size.query?.includes("tv")) {
      await page.evaluate(() => {
        document.documentElement.style.fontSize = "200%";
      });
      await fits(page, `${label} with large text`);
    }
    await page.assertClean();
    await page.context().close();
  }
}

/** All is reached by keyboard: links, details and the pause button, each with a focus that is seen. */
async function keyboard(browser, address) {
  const page = await open(browser, { viewport: { width: 1440, height: 900 } });
  await page.goto(address);
  await becomes(page, "live");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "pause");
  await page.keyboard.press("Enter");
  assert.equal(await page.getAttribute("#pause", "aria-pressed"), "true");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".hero details[open] .panel table.hours", { state: "visible" });
  await page.keyboard.press("Tab");
  assert.match(await page.evaluate(() => document.activeElement.getAttribute("href") ?? document.activeElement.className), /panel|query/);
  // What is open stays open while states come.
  await page.waitForTimeout(1500);
  assert(await page.locator(".hero details[open]").count() === 1);
  await accessible(page, "with a panel open");
  await page.assertClean();
  await page.context().close();
}

/** On a phone a row is a label, a number and a difference; a tap opens its line, its goal and what stands behind it. */
async function rowsOpen(browser, address) {
  const page = await open(browser, { viewport: { width: 320, height: 690 }, hasTouch: true, isMobile: true });
  await page.goto(address);
  await becomes(page, "live");
  const row = page.locator('[data-key="revenue"]');
  assert((await row.boundingBox()).y >= 0.85 * 690, "the hero fills the first screen");
  for (const part of [".spark", ".goal", ".last", ".panel"]) assert(await row.locator(part).first().isHidden(), `${part} of a row`);
  for (const part of ["h3", ".num", ".delta"]) assert(await row.locator(part).first().isVisible(), `${part} of a row`);
  assert((await row.boundingBox()).height >= 56, "a row can be tapped");
  await row.tap();
  for (const part of [".spark", ".goal", ".last", ".panel table.hours"]) await row.locator(part).first().waitFor({ state: "visible" });
  await fits(page, "a row that is open");
  await accessible(page, "a row that is open");
  await page.assertClean();
  await page.context().close();
}

/** What a line shows stands in words beside it. */
async function saidInWords(browser, address) {
  const page = await open(browser, {});
  await page.goto(address);
  await becomes(page, "live");
  assert.match(await page.getAttribute(".hero .spark svg", "aria-label"),
    /^Sign-ups over the day: today 184 so far, last week by this time [\d.]+; 09:26 deploy web$/);
  const about = await page.locator(".about").innerText();
  assert.match(about.replace(/\s+/g, " "), /^Europe\/Paris saved to disk every 200 ms data \d+ s old$/);
  await page.context().close();
}

/** A page that is older than its server loads itself again, once, and not before the server shows that it answers. */
async function reloadsForANewBuild(browser, address, shown) {
  const page = await open(browser, {});
  let loads = 0;
  page.on("load", () => {
    loads += 1;
  });
  await page.goto(address);
  await becomes(page, "live");
  const old = shown.case;
  shown.case = { ...old, html: old.html.replace('data-build="0.1.0"', 'data-build="0.2.0"'), state: { ...old.state, build: "0.2.0" } };
  shown.end();
  await page.waitForFunction(() => document.documentElement.dataset.build === "0.2.0");
  await becomes(page, "live");
  assert.equal(loads, 2);
  shown.case = old;
  await page.context().close();
}

(async () => {
  const shown = { case: null };
  const server = await serve(shown, input);
  const address = `http://127.0.0.1:${server.address().port}/`;
  const browser = await launch();
  try {
    for (shown.case of cases) {
      await withoutScripts(browser, address, shown);
      await withScripts(browser, address, shown);
    }
    for (const name of ["whole", "large", "partial", "hostile"]) {
      shown.case = cases.find((known) => known.name === name);
      await sizes(browser, address, shown);
    }
    shown.case = cases.find((known) => known.name === "whole");
    await keyboard(browser, address);
    await rowsOpen(browser, address);
    await saidInWords(browser, address);
    await reloadsForANewBuild(browser, address, shown);
    console.log(JSON.stringify({ cases: cases.length }));
  } finally {
    await browser.close();
    server.closeAllConnections();
    server.close();
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
