// A page of a tallyd that nothing was configured for: empty, then what comes in, with the lines that keep it.
"use strict";

const assert = require("node:assert/strict");
const dgram = require("node:dgram");
const { becomes, launch, open } = require("./browser.js");

const { ports } = JSON.parse(process.argv[2]);
const hostile = "<img src=x onerror=window.hacked=1>";

(async () => {
  const browser = await launch();
  const socket = dgram.createSocket("udp4");
  const send = (lines) => new Promise((resolve, reject) => {
    socket.send(lines, ports.statsd, "127.0.0.1", (error) => (error ? reject(error) : resolve()));
  });
  try {
    const page = await open(browser, { viewport: { width: 1440, height: 900 } });
    await page.goto(`http://127.0.0.1:${ports.http}/`);
    await becomes(page, "live");
    assert.match(await page.locator("main").innerText(), new RegExp(`Nothing has come in yet[\\s\\S]*signups:1\\|c.* ${ports.statsd}$`, "m"));
    await send(`zeta:1|c\nshop.signups:3|c\ncheckout.time:240|ms\nvisitors:a|s\n${hostile}:1|c`);
    const wanted = ["Shop signups", "Checkout time", "Visitors"];
    const labels = () => page.locator("h3").evaluateAll((all) => all.map((label) => label.firstChild.data.trim()));
    await page.waitForFunction(() => document.querySelectorAll("h3").length === 5);
    assert.deepEqual((await labels()).slice(0, 3), wanted);
    assert.equal(await page.locator(".hero .val").innerText(), "3");
    const row = page.locator("section.unplaced li", { hasText: "shop.signups" });
    await row.locator("summary").click();
    assert.match(await row.locator("pre").innerText(), /^\[\[figure\]\]\nid = "shop\.signups"\nmetric = "shop\.signups"\n/);
    await page.assertClean();
  } finally {
    await browser.close();
    socket.close();
  }
})().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
