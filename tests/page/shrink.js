// A picture of a page in as few bytes as a repository likes: 256 colours, those that occur most and those that no other
// comes close to.
"use strict";

const { readFileSync, writeFileSync } = require("node:fs");
const { crc32, deflateSync, inflateSync } = require("node:zlib");

const MAGIC = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
const COMMON = 160;
const RARE = 96;

/** Width, height, bytes a pixel, and the pixels with every filter undone. Chromium writes RGB or RGBA, not interlaced. */
function decode(bytes) {
  const data = [];
  let [wide, high, size] = [0, 0, 0];
  for (let at = 8; at < bytes.length;) {
    const length = bytes.readUInt32BE(at);
    const kind = bytes.toString("latin1", at + 4, at + 8);
    const part = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IHDR") [wide, high, size] = [part.readUInt32BE(0), part.readUInt32BE(4), { 2: 3, 6: 4 }[part[9]]];
    if (kind === "IDAT") data.push(part);
    at += length + 12;
  }
  const raw = inflateSync(Buffer.concat(data));
  const row = wide * size;
  const pixels = Buffer.alloc(row * high);
  for (let y = 0; y < high; y += 1) {
    const filter = raw[y * (row + 1)];
    for (let x = 0; x < row; x += 1) {
      const to = y * row + x;
      const left = x >= size ? pixels[to - size] : 0;
      const up = y > 0 ? pixels[to - row] : 0;
      const corner = x >= size && y > 0 ? pixels[to - row - size] : 0;
      const paeth = () => [left, up, corner].map((near) => [Math.abs(left + up - corner - near), near])
        .reduce((best, one) => (one[0] < best[0] ? one : best))[1];
      const guess = [() => 0, () => left, () => up, () => (left + up) >> 1, paeth][filter]();
      pixels[to] = raw[y * (row + 1) + 1 + x] + guess;
    }
  }
  return { wide, high, size, pixels };
}

function chunk(kind, data) {
  const bytes = Buffer.alloc(data.length + 12);
  bytes.writeUInt32BE(data.length, 0);
  bytes.write(kind, 4, "latin1");
  data.copy(bytes, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, data.length + 8)), data.length + 8);
  return bytes;
}

const parts = (rgb) => [rgb >> 16, (rgb >> 8) & 255, rgb & 255];

function far(one, other) {
  const [a, b] = [parts(one), parts(other)];
  return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;
}

/** The commonest colours, and then one by one the one that would be missed most. */
function choose(counts) {
  const all = [...counts].sort((a, b) => b[1] - a[1]);
  const palette = all.slice(0, COMMON).map(([rgb]) => rgb);
  const rest = all.slice(COMMON).map(([rgb, count]) => ({ rgb, count, far: Math.min(...palette.map((known) => far(rgb, known))) }));
  for (let more = 0; more < RARE && rest.length > 0; more += 1) {
    const [missed] = rest.splice(rest.reduce((best, one, at) => (one.far * one.count > rest[best].far * rest[best].count ? at : best), 0), 1);
    palette.push(missed.rgb);
    for (const one of rest) one.far = Math.min(one.far, far(one.rgb, missed.rgb));
  }
  return palette;
}

/** Writes the picture in a file anew. */
function shrink(file) {
  const { wide, high, size, pixels } = decode(readFileSync(file));
  const colour = (at) => (pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2];
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += size) counts.set(colour(at), (counts.get(colour(at)) ?? 0) + 1);
  const palette = choose(counts);
  const near = (rgb) => palette.reduce((best, known, at) => (far(known, rgb) < far(palette[best], rgb) ? at : best), 0);
  const places = new Map(palette.map((known, at) => [known, at]));
  const rows = Buffer.alloc((wide + 1) * high);
  for (let y = 0; y < high; y += 1) {
    for (let x = 0; x < wide; x += 1) {
      const rgb = colour((y * wide + x) * size);
      if (!places.has(rgb)) places.set(rgb, near(rgb));
      rows[y * (wide + 1) + 1 + x] = places.get(rgb);
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(wide, 0);
  head.writeUInt32BE(high, 4);
  head.set([8, 3, 0, 0, 0], 8);
  writeFileSync(file, Buffer.concat([
    MAGIC, chunk("IHDR", head), chunk("PLTE", Buffer.from(palette.flatMap(parts))),
    chunk("IDAT", deflateSync(rows, { level: 9, memLevel: 9 })), chunk("IEND", Buffer.alloc(0)),
  ]));
}

module.exports = { shrink };
