// The page at work: what comes over the stream is drawn, what does not come is noticed and said.

import { patch } from './dom.js';
import { LATE_MS, STALE_MS, Stream } from './stream.js';
import { footer, pages, span, ticker, verdict, view } from './view.js';
import { television } from './tv.js';

const root = document.documentElement;
const part = (id) => document.getElementById(id);
const places = { grafana: root.dataset.grafana };
const SPEAK_MS = 60000;
const POLL_LATE_MS = 8000;
const RELOAD_MS = 30000;

let state = null;
let behind = 0; // the server's clock less ours
let health = 'live';
let spokenAt = performance.now();
let reloadedAt = -RELOAD_MS;

const listeners = {
  onState(next) {
    state = next;
    behind = next.at_ms - Date.now();
    if (next.build !== root.dataset.build) reload();
    draw();
  },
  onBeat(at) {
    behind = at - Date.now();
    judge();
  },
};
let stream = new Stream(root.dataset.page, listeners);

function show(id, shown) {
  if (part(id).hidden === shown) part(id).hidden = !shown;
}

function draw() {
  patch(part('figures'), view(state, Date.now() + behind, places));
  patch(part('ticker'), ticker(state));
  patch(part('about'), footer(state));
  patch(part('pages'), pages(state, location.search));
  patch(part('title'), [state.page.title].filter(Boolean));
  show('events', state.ticker.length > 0);
  name();
}

const clock = (ms) => {
  const form = { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false };
  try {
    return new Intl.DateTimeFormat('en-GB', { ...form, timeZone: state?.zone }).format(ms);
  } catch {
    return new Intl.DateTimeFormat('en-GB', form).format(ms);
  }
};

/** What the page is, judged by its own clock alone. */
function judge() {
  const age = stream.age();
  const late = stream.polling ? POLL_LATE_MS : LATE_MS;
  const now = age > STALE_MS || stream.lost() ? 'stale' : age > late ? 'late' : 'live';
  const since = clock(Date.now() + behind - age);
  const words = { live: 'live', late: `${span(age)} behind`, stale: 'stale' }[now];
  part('health').textContent = words;
  const seconds = Math.ceil(stream.retryIn() / 1000);
  const retry = seconds > 0 ? `trying again in ${seconds} s` : 'trying again';
  show('banner', now === 'stale');
  if (now === 'stale') part('banner').textContent = `Not live since ${since}, ${retry}`;
  part('age').textContent = now === 'live' && stream.polling ? 'data every few seconds' : `data ${span(age)} old`;
  if (now !== health) {
    root.classList.replace(`page-${health}`, `page-${now}`);
    health = now;
    say(now === 'live' ? `Live again. ${summary()}` : now === 'stale' ? `Connection lost. Not live since ${since}.` : '');
    name();
  } else if (now === 'live' && performance.now() - spokenAt > SPEAK_MS) {
    say(summary());
  }
}

/** The one line that a screen reader hears: at changes of health, and the hero once a minute. */
function say(words) {
  if (!words) return;
  spokenAt = performance.now();
  part('say').textContent = words;
}

const value = ({ unit, unit_first: first, text }) => (unit ? (first ? `${unit} ${text}` : `${text} ${unit}`) : text);

function summary() {
  const [hero] = state?.figures ?? [];
  if (!hero) return '';
  const [first] = hero.compare;
  const compared = first ? `, ${first.delta} ${first.label}${verdict(hero, first) === 'usual' ? ', as usual' : ''}` : '';
  return `${hero.label} ${hero.values.map(value).join(', ') || 'not known'}${compared}`;
}

function name() {
  const [hero] = state?.figures ?? [];
  const number = hero?.values.length ? `${value(hero.values[0])} ${hero.label} · ` : '';
  document.title = `${health === 'stale' ? '(stale) ' : ''}${number}${state?.page.title ?? ''}`;
}

/** Only once the server has shown that it can give the page: a failed reload would end the page for good. */
async function reload() {
  if (performance.now() - reloadedAt < RELOAD_MS) return;
  reloadedAt = performance.now();
  try {
    const answer = await fetch(location.href, { cache: 'reload', signal: AbortSignal.timeout(10000) });
    if (answer.ok) location.reload();
  } catch {
    // Later: the state will say so again.
  }
}

/** Shows another page in this one, once its first state is there. */
function turnTo(path) {
  const next = new Stream(path, {
    ...listeners,
    onState(first) {
      stream.close();
      stream = next;
      root.dataset.page = path;
      history.replaceState(null, '', path + location.search);
      Object.assign(next, listeners);
      listeners.onState(first);
    },
    onBeat() {},
  });
  setTimeout(() => next !== stream && next.close(), 10000);
}

const pause = part('pause');
pause.hidden = false;
pause.addEventListener('click', () => {
  const paused = root.classList.toggle('paused');
  pause.setAttribute('aria-pressed', String(paused));
});

setInterval(judge, 250);
setInterval(() => state && draw(), 1000);
television({ turnTo, reload, state: () => state });
