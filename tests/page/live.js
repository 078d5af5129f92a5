// A page of the real program: lines go in over UDP, numbers move in Chromium.
"use strict";

const assert = require("node:assert/strict");
const dgram = require("node:dgram");
const { becomes, launch, open } = require("./browser.js");

const { ports, rounds, hostile } = JSON.parse(process.argv[2]);
const address = `http://127.0.0.1:${ports.http}`;
const socket = dgram.createSocket("udp4");
const send = (lines) => new Promise((resolve, reject) => {
  socket.send(lines, ports.statsd, "127.0.0.1", (error) => (error ? reject(error) : resolve()));
});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const number = (page, id) => page.locator(`[data-key="${id}"] .val`).first();
const shows = (page, id, text) => page.waitForFunction(
  ([key, wanted]) => document.querySelector(`[data-key="${key}"] .val`)?.textContent === wanted, [id, text]);

/** From never seen, over the first event, to money in two currencies. */
async function numbersMove(page) {
  await page.goto(`${address}/`);
  await becomes(page, "live");
  assert.match(await page.locator('[data-key="signups"]').innerText(), /waiting for the first signups/);
  assert.equal(await number(page, "signups").innerText(), "–");
  await send("signups:1|c");
  await shows(page, "signups", "1");
  assert.match(await page.locator('[data-key="signups"] .last').innerText(), /^last one \d+ s ago$/);
  await send("signups:2|c\nrevenue.eur:4900|c\nrevenue.usd:26000|c\nreaders:a|s\nreaders:b|s\nreaders:a|s");
  await shows(page, "signups", "3");
  await page.waitForFunction(() => document.querySelectorAll('[data-key="revenue"] .num').length === 2);
  const revenue = (await page.locator('[data-key="revenue"] .nums').innerText()).replace(/\s+/g, " ");
  assert.match(revenue, /49\.00/);
  assert.match(revenue, /260\.00/);
  await shows(page, "readers", "2");
  assert.match(await page.title(), /^3 .* · /);
  assert((await page.locator("#ticker li").count()) > 0);
}

/** What a reader without scripts gets, and what the links of a figure lead to. */
async function withoutScripts(browser) {
  const page = await open(browser, { javaScriptEnabled: false });
  await page.goto(`${address}/`);
  assert.equal(await number(page, "signups").innerText(), "3");
  assert.match(await page.locator("#health").innerText(), /^as of \d\d:\d\d$/);
  const links = await page.locator('[data-key="signups"] .links a').evaluateAll((all) => all.map((link) => [link.textContent, link.href]));
  assert.deepEqual(links.map(([words]) => words), ["CSV", "JSON", "Open in Grafana"]);
  for (const [words, href] of links.slice(0, 2)) {
    const answer = await fetch(href);
    assert.equal(answer.status, 200, href);
    assert.match(await answer.text(), /signups/, words);
  }
  assert.match(links[2][1], /^https:\/\/grafana\.example\.org\/d\/x\?orgId=1&from=\d+&to=now$/);
  await page.context().close();
}

async function marksStand(page) {
  const answer = await fetch(`${address}/api/v1/marks`, { method: "POST", body: "deploy web" });
  assert.equal(answer.status, 201);
  await page.waitForSelector('[data-key="signups"] .marks span', { state: "attached" });
  assert.match(await page.locator(".marks").first().innerText(), /\d\d:\d\d deploy web/);
  assert((await page.locator('[data-key="signups"] path.mark').count()) === 1);
}

async function staysTheSameAfterAReload(page) {
  const text = async () => (await page.locator("main .nums").allInnerTexts()).join("|");
  const before = await text();
  await page.reload();
  assert.equal(await text(), before);
  await becomes(page, "live");
  assert.equal(await text(), before);
}

const countRolls = (page) => page.evaluate(() => {
  window.rolled = 0;
  new MutationObserver((records) => {
    window.rolled += records.flatMap((record) => [...record.addedNodes]).filter((node) => node.className === "roll").length;
  }).observe(document.getElementById("figures"), { subtree: true, childList: true });
});

/** Motion stops at the button; numbers do not. */
async function pauses(page) {
  await page.click("#pause");
  await countRolls(page);
  const before = Number(await number(page, "signups").innerText());
  await send("signups:1|c");
  await shows(page, "signups", String(before + 1));
  assert.equal(await page.evaluate(() => window.rolled), 0, "a number rolled while motion is paused");
  await page.click("#pause");
  await send("signups:1|c");
  await shows(page, "signups", String(before + 2));
  assert((await page.evaluate(() => window.rolled)) > 0, "no number rolled");
}

/** Who asks their system for less motion gets none, and every number. */
async function movesNothingForWhoDoesNotWantIt(browser) {
  const page = await open(browser, { reducedMotion: "reduce" });
  await page.goto(`${address}/`);
  await becomes(page, "live");
  await countRolls(page);
  const before = Number(await number(page, "signups").innerText());
  await send("signups:1|c");
  await shows(page, "signups", String(before + 1));
  assert.equal(await page.evaluate(() => window.rolled), 0, "a number rolled");
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".dot")).animationName), "none");
  await page.assertClean();
  await page.context().close();
}

/** A screen on the wall turns from page to page without ever being loaded anew, and says so in its address. */
async function televisionTurns(browser) {
  const page = await open(browser, { viewport: { width: 1920, height: 1080 } });
  await page.goto(`${address}/?tv=1&rotate=5s&dark=1`);
  await becomes(page, "live");
  await page.evaluate(() => {
    window.neverReloaded = true;
  });
  await page.waitForFunction(() => location.pathname === "/live/money" && document.getElementById("title").textContent === "Money");
  await page.waitForFunction(() => location.pathname === "/" && document.querySelector(".hero")?.dataset.key === "signups");
  assert.equal(await page.evaluate(() => window.neverReloaded), true);
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).cursor), "none", "the cursor is hidden");
  await page.assertClean();
  await page.context().close();
}

/** Names from the wire, labels from the configuration and texts of marks are texts. */
async function nothingRuns(page) {
  for (const [index, text] of hostile.entries()) {
    await send(`${text.replace(/[:|\n]/g, "")}${index}:1|c|#tag:${text.replace(/[|,\n]/g, "")}`);
    await send(`parts:1|c|#part:${text.replace(/[|,\n]/g, "")}`);
    const answer = await fetch(`${address}/api/v1/marks`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }),
    });
    assert(answer.status === 201 || answer.status === 400, `${answer.status} for ${text}`);
  }
  await page.waitForSelector("path.mark:nth-of-type(5)", { state: "attached" });
  await sleep(1500);
  assert((await page.locator("#figures").innerText()).includes("<script>window.hacked=1</script>"), "the label is shown as it is");
  assert.equal(await page.locator("main script, main iframe, main img, main [onerror], main [onmouseover], main [style]").count(), 0);
}

/** From a datagram's way out to the number in the document. */
async function latency(page) {
  await page.evaluate(() => {
    window.seen = new Map();
    const value = document.querySelector('[data-key="signups"] .val');
    new MutationObserver(() => {
      const text = value.textContent;
      if (!window.seen.has(text)) window.seen.set(text, Date.now());
    }).observe(value, { subtree: true, childList: true, characterData: true });
  });
  let count = Number(await number(page, "signups").innerText());
  const took = [];
  for (let round = 0; round < rounds; round += 1) {
    count += 1;
    // Not in step with ticks.
    await sleep(300 + Math.random() * 250);
    const sent = Date.now();
    await send("signups:1|c");
    await shows(page, "signups", String(count));
    took.push((await page.evaluate((text) => window.seen.get(text), String(count))) - sent);
  }
  took.sort((a, b) => a - b);
  const at = (part) => took[Math.min(took.length - 1, Math.floor(took.length * part))];
  return { rounds, p50_ms: at(0.5), p99_ms: at(0.99), most_ms: took[took.length - 1] };
}

(async () => {
  const browser = await launch();
  try {
    const page = await open(browser, { viewport: { width: 1440, height: 900 } });
    await numbersMove(page);
    await withoutScripts(browser);
    await marksStand(page);
    await staysTheSameAfterAReload(page);
    await pauses(page);
    await movesNothingForWhoDoesNotWantIt(browser);
    const measured = await latency(page);
    await televisionTurns(browser);
    await nothingRuns(page);
    await page.reload();
    await becomes(page, "live");
    await page.assertClean();
    console.log(JSON.stringify(measured));
  } finally {
    await browser.close();
    socket.close();
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
