// The lines: today over a dashed last week, and bars. Coordinates are whole numbers on a grid of 1,000 by 400 that
// CSS stretches; strokes keep their width.

import { h } from './dom.js';

const WIDE = 1000;
const HIGH = 400;
const TOP = 14;
const DAY_MS = 86400000;

/** What is summed over the day is drawn as the sum so far, so that the line ends at the number shown. */
export const isSummed = (figure) => figure.kind === 'count' || figure.kind === 'money';

function course(values, summed) {
  if (!summed) return values;
  let sum = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum += value;
    return sum;
  });
}

/** Of what is neither summed nor stands for itself, a part that has just begun says nothing yet. */
const whole = (figure) => figure.spark.now_index + (isSummed(figure) || figure.kind === 'gauge' ? 1 : 0);

/** Today as far as it has come. A sum ends at the number that is shown, which is newer than its last part. */
function sofar(figure) {
  const values = course(figure.spark.today.slice(0, whole(figure)), isSummed(figure));
  const [shown] = figure.values;
  if (isSummed(figure) && shown && values.length > 0) values[values.length - 1] = shown.number;
  return values;
}

const largest = (values) => values.reduce((most, value) => (value !== null && value > most ? value : most), 0);

/** A path through what is known; a gap where nothing is. */
function line(values, scale) {
  let path = '';
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const x = Math.round(scale.x(index));
    const y = Math.round(scale.y(value));
    path += `${pen ? 'L' : 'M'}${x} ${y}`;
    pen = true;
  });
  return path;
}

/** The marks that stand on a line. */
export const ofToday = (spark, marks) =>
  marks.filter((mark) => mark.at_ms >= spark.from_ms && mark.at_ms < spark.from_ms + DAY_MS);

/** Today's line as an area, its end as a dot, last week's line, and the marks. */
export function drawing(figure, marks) {
  const { spark } = figure;
  const summed = isSummed(figure);
  const today = sofar(figure);
  const before = course(spark.last_week, summed);
  const most = Math.max(largest(today), largest(before)) || 1;
  const steps = Math.max(spark.last_week.length, spark.today.length, 1);
  const scale = {
    x: (index) => ((index + 1) * WIDE) / steps,
    y: (value) => HIGH - 2 - (Math.max(value, 0) / most) * (HIGH - TOP),
  };
  const path = line(today, scale);
  const end = /[ML](\d+) (\d+)$/.exec(path);
  const unbroken = path.startsWith('M') && path.lastIndexOf('M') === 0;
  const start = unbroken && /^M(\d+)/.exec(path)[1];
  const lines = ofToday(spark, marks);
  return h('svg', {
    viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': inWords(figure, lines),
  },
  lines.map((mark) => {
    const x = Math.round(((mark.at_ms - spark.from_ms) / DAY_MS) * WIDE);
    return h('path.mark', { key: `${mark.at_ms} ${mark.text}`, d: `M${x} 0V${HIGH}` },
      h('title', {}, `${mark.clock} ${mark.text}`));
  }),
  h('path.before', { d: line(before, scale) }),
  summed && unbroken && end && h('path.area', { d: `${path}V${HIGH}H${start}Z` }),
  end && h('path.end', { d: `M${end[1]} ${end[2]}h0` }),
  h('path.today', { d: path }));
}

/** A number as short as it can be said: whole, or with two digits; thousands apart. */
export const plain = (value) => value.toFixed(Number.isInteger(value) ? 0 : 2).replace(/\B(?=(\d{3})+(?!\d))/g, ',');

function inWords(figure, marks) {
  const summed = isSummed(figure);
  const last = (values) => values.reduce((found, value) => (value === null ? found : value), null);
  const now = last(sofar(figure));
  const then = last(course(figure.spark.last_week.slice(0, whole(figure)), summed));
  const say = (value) => (value === null ? 'not known' : plain(value));
  const deploys = marks.map((mark) => `; ${mark.clock} ${mark.text}`).join('');
  const words = summed ? ['today', ' so far, last week by this time'] : ['lately', ', at this time last week'];
  return `${figure.label} over the day: ${words[0]} ${say(now)}${words[1]} ${say(then)}${deploys}`;
}

/** The hours under the hero's line. */
export function axis(spark) {
  const at = (part) => String(Math.floor((spark.from_minute + part * 1440) / 60) % 24).padStart(2, '0');
  return h('p.axis', { 'aria-hidden': 'true' }, [0, 0.25, 0.5, 0.75].map((part) =>
    h('span', {}, at(part))), h('span', {}, spark.from_minute === 0 ? '24' : at(0)));
}

/** How much of something, and where it usually is by now. */
export function bar(done, pace) {
  const part = (value) => Math.round(Math.min(Math.max(value, 0), 1) * WIDE);
  return h('svg.bar', { viewBox: `0 0 ${WIDE} 10`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('rect.all', { width: WIDE, height: 10 }),
    h('rect.done', { width: part(done), height: 10 }),
    pace !== null && h('path.pace', { d: `M${Math.min(Math.max(part(pace), 2), WIDE - 2)} 0V10` }));
}

/** The line as a table: an hour a row. */
export function hours(figure) {
  const { spark } = figure;
  const each = Math.max(1, Math.round(3600000 / spark.step_ms));
  const rows = [];
  const steps = Math.max(spark.last_week.length, spark.today.length);
  for (let from = 0; from < steps; from += each) {
    const minute = spark.from_minute + (from * spark.step_ms) / 60000;
    const name = `${String(Math.floor(minute / 60) % 24).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
    const now = from <= spark.now_index ? hour(figure, spark.today.slice(from, Math.min(from + each, spark.now_index + 1))) : null;
    rows.push([name, now, hour(figure, spark.last_week.slice(from, from + each))]);
  }
  const cell = (value) => h('td', {}, value === null ? '–' : plain(value));
  return h('table.hours', {},
    h('caption', {}, 'By hour'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'From'), h('th', { scope: 'col' }, 'Today'),
      h('th', { scope: 'col' }, 'Last week'))),
    h('tbody', {}, rows.map(([name, now, then]) => h('tr', {}, h('th', { scope: 'row' }, name), cell(now), cell(then)))));
}

function hour(figure, values) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  return isSummed(figure) ? known.reduce((sum, value) => sum + value, 0) : known[known.length - 1];
}
