// A page's state as elements. The server draws the same in src/serve/page/: a test holds them against each other.
//
// All numbers come as text from the server. Only ages are worked out here, since they grow while nothing comes.

import { h } from './dom.js';
import { axis, bar, drawing, hours, ofToday } from './spark.js';

/** `40 s`, `12 min`, `3 h`: a whole number of the largest unit that fits. */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What `main` holds. `now` is the server's time. */
export function view(state, now, places) {
  const lead = state.figures.filter((figure) => figure.slot !== 'third');
  const thirds = state.figures.filter((figure) => figure.slot === 'third');
  const groups = new Map();
  for (const figure of thirds) {
    const name = figure.group ?? '';
    groups.set(name, [...(groups.get(name) ?? []), figure]);
  }
  const tiles = (figures) => figures.map((figure) => tile(figure, state, now, places));
  return [
    lead.length > 0 && h(`section.lead.n${lead.length}`, { 'aria-labelledby': 'lead' },
      h('h2.hush', { id: 'lead' }, 'Main figures'),
      h('ul', {}, tiles(lead))),
    thirds.length > 0 && h(`div.groups.n${thirds.length}`, {}, [...groups].map(([name, figures], index) =>
      h(`section.group.n${figures.length}`, { 'aria-labelledby': `group-${index}` },
        h(name ? 'h2' : 'h2.hush', { id: `group-${index}` }, name || 'More figures'),
        h('ul', {}, tiles(figures))))),
    state.figures.length === 0 && empty(state),
    state.unplaced.length > 0 && unplaced(state),
  ].filter(Boolean);
}

function empty(state) {
  if (state.version === 0) {
    return h('section.empty', {}, h('h2', {}, 'Starting'),
      h('p', {}, 'What is known is being read: it will stand here in a moment.'));
  }
  return h('section.empty', {},
    h('h2', {}, 'Nothing has come in yet'),
    state.snippet && h('p', {}, 'Send the first event, and it will stand here within a second:'),
    state.snippet && h('p.snippet', {}, h('code', {}, state.snippet)));
}

function tile(figure, state, now, places) {
  const quiet = figure.quiet ? (figure.quiet.alarm ? '.quiet.alarm' : '.quiet') : '';
  const never = figure.state === 'never';
  return h(`li.tile.${figure.slot}.${figure.kind}.is-${figure.state}${quiet}`, { key: figure.id },
    h('div.head', {},
      h('h3', {}, figure.label, figure.period && ' ', figure.period && h('small', {}, figure.period)),
      figure.record && h('p.record', {}, figure.record)),
    h('div.now', {}, numbers(figure), never ? null : comparisons(figure)),
    never ? waiting(figure) : [
      notes(figure, state),
      figure.spark && picture(figure, state),
      figure.goals.map((goal) => target(goal)),
      h('p.last', {}, lastOne(figure, now)),
      more(figure, places),
    ]);
}

function numbers(figure) {
  if (figure.values.length === 0) return h('p.num.none', {}, h('span.val', {}, '–'), h('span.hush', {}, 'not known'));
  // How long the longest is: long numbers are set smaller.
  const long = Math.max(...figure.values.map(({ unit, text }) => [...unit].length + [...text].length));
  return h(`div.nums.n${figure.values.length}.l${Math.min(long, 12)}`, {}, figure.values.map((value) => {
    const unit = value.unit && h('span.unit', {}, value.unit);
    return h('p.num', { key: value.unit || 'one' },
      figure.state === 'partial' && h('span.approx', {}, '≈'),
      value.unit_first && unit,
      h('span.val', { roll: true }, value.text),
      !value.unit_first && unit);
  }));
}

/** The word, the sign and the arrow say it; the colour only repeats it. */
export function verdict(figure, compare) {
  const good = figure.lower_is_better ? 'down' : 'up';
  if (compare.tone === 'usual') return 'usual';
  if (compare.tone === 'none') return 'none';
  return compare.tone === good ? 'good' : 'bad';
}

function comparisons(figure) {
  const rows = figure.compare.map((compare) => {
    const kind = verdict(figure, compare);
    const colour = kind === 'good' || kind === 'bad';
    const arrow = /^[+]/.test(compare.delta) ? '▲' : '▼';
    return h(`p.delta.${kind}`, { key: compare.label },
      h('b', {}, colour && h('i', { 'aria-hidden': 'true' }, arrow), compare.delta),
      compare.percent && h('em', {}, compare.percent),
      h('span', {}, compare.label, kind === 'usual' && ', as usual'));
  });
  return h('div.compare', {}, rows,
    figure.compare_words && h('p.delta.none', {}, h('span', {}, figure.compare_words)),
    figure.usual && h('p.typical', {}, figure.usual),
    figure.also.length > 0 && h('p.also', {}, figure.also.map((also) =>
      h('span', { key: also.label }, h('b', {}, also.text), ' ', also.label))));
}

function waiting(figure) {
  return [
    h('p.wait', {}, 'waiting for the first ', h('code', {}, figure.id)),
    figure.snippet && h('p.snippet', {}, h('code', {}, figure.snippet)),
  ];
}

function notes(figure, state) {
  return [
    figure.state === 'partial' && state.partial && h('p.note.partly', {}, `approximate: ${state.partial}`),
    figure.quiet && h('p.note.silent', {}, sentence(figure.quiet.words)),
    figure.corrected && h('p.note', {}, figure.corrected),
  ];
}

function picture(figure, state) {
  const hero = figure.slot === 'hero';
  const marks = hero ? ofToday(figure.spark, state.marks).slice(-MARKS) : [];
  return [
    h('div.spark', {}, drawing(figure, state.marks), hero && axis(figure.spark)),
    marks.length > 0 && h('p.marks', {}, marks.map((mark) =>
      h('span', { key: `${mark.at_ms} ${mark.text}` }, `${mark.clock} ${mark.text}`))),
  ];
}

function target(goal) {
  return h('div.goal', { key: goal.period }, bar(goal.done, goal.pace),
    h('p', {}, h('b', {}, `${Math.floor(goal.done * 100)} %`), ` of ${goal.target} ${PERIODS[goal.period]}`,
      goal.words && h('span', {}, ` · ${goal.words}`)));
}

const MARKS = 3; // whose texts are written out: a screen on the wall has nobody to point at the others
const PERIODS = { day: 'today', week: 'this week', month: 'this month' };

function lastOne(figure, now) {
  if (figure.last_ms === null) return figure.last_words ?? 'no event today';
  const age = now - figure.last_ms;
  return figure.state !== 'zero' && age < 12 * 3600000 ? `last one ${span(age)} ago` : figure.last_words ?? '';
}

/** What stands behind a figure: its parts, its hours as a table, and where to take it along. */
function more(figure, places) {
  return h('details.more', {},
    h('summary', {}, h('span.hush', {}, `More on ${figure.label}`)),
    h('div.panel', {},
      figure.breakdown.length > 0 && h('table.parts', {},
        h('caption', {}, 'Largest parts'),
        h('tbody', {}, figure.breakdown.map((slice) => h('tr', { key: slice.name },
          h('th', { scope: 'row' }, slice.name), h('td', {}, slice.text), h('td', {}, bar(slice.share, null)))))),
      figure.spark && hours(figure),
      h('p.links', {}, links(figure, places).map(([words, href]) => h('a', { key: words, href }, words)))));
}

/** Where a figure's history can be had: by day, for the last month. */
export function links(figure, places) {
  if (figure.query.length === 0) return [];
  const names = figure.query.map((name) => `name=${encodeURIComponent(name)}`).join('&');
  const query = `/api/v1/query?${names}&from=-30d&step=1d`;
  const found = [['CSV', `${query}&format=csv`], ['JSON', `${query}&format=json`]];
  if (places.grafana) {
    const from = figure.spark ? figure.spark.from_ms : 'now-24h';
    const join = places.grafana.includes('?') ? '&' : '?';
    found.push(['Open in Grafana', `${places.grafana}${join}from=${from}&to=now`]);
  }
  return found;
}

function unplaced(state) {
  return h('section.unplaced', { 'aria-labelledby': 'unplaced' },
    h('h2', { id: 'unplaced' }, state.guessed ? 'Not configured yet' : 'Seen, not placed'),
    h('p', {}, state.guessed
      ? 'The figures above are a guess from what comes in. Paste what you want to keep into tallyd.toml.'
      : 'These come in and stand on no page. Paste what you want to see into tallyd.toml.'),
    h('ul', {}, state.unplaced.map((series) => h('li', { key: `${series.kind} ${series.name}` },
      h('details', {},
        h('summary', {}, h('code', {}, series.name), ' ', h('small', {}, series.kind)),
        h('pre', {}, h('code', {}, series.toml)))))));
}

/** The last events, the newest first. */
export function ticker(state) {
  return state.ticker.map((event) => h('li', { key: `${event.at_ms} ${event.text}` },
    h('time', {}, event.clock), ' ', event.text));
}

/** The footer: zone, promise, and what is unusual. */
export function footer(state) {
  return [
    state.zone && h('span', {}, state.zone),
    state.guarantee && h('span', {}, state.guarantee),
    state.partial && h('span.partly', {}, `approximate: ${state.partial}`),
    state.note && h('span', {}, state.note),
  ].filter(Boolean);
}

/** The links to all pages; none where there is one alone. */
export function pages(state, query) {
  if (state.pages.length < 2) return [];
  return state.pages.map((page) => h('a', {
    key: page.path, href: page.path + query, 'aria-current': page.path === state.page.path && 'page',
  }, page.title));
}
