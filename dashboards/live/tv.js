// A screen on the wall: `?tv=1&rotate=30s&night=22-6`. Nobody touches it for months, so it looks after itself.

const root = document.documentElement;
const CURSOR_MS = 3000;
const SHIFT_MS = 180000;
const SHIFTS = [[0, 0], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1]];
const RELOAD_HOUR = 4;

const hide = () => root.classList.add('no-cursor');

/** `30s`, `2m` or `30`, in milliseconds; 0 is never. */
export function interval(text) {
  const found = /^(\d{1,4})(s|m)?$/.exec(text ?? '');
  return found ? Math.max(5, Number(found[1])) * (found[2] === 'm' ? 60000 : 1000) : 0;
}

/** Whether `hour` lies in `22-6`. */
export function isNight(hour, text) {
  const found = /^(\d{1,2})-(\d{1,2})$/.exec(text ?? '22-6');
  if (!found) return false;
  const [from, to] = [Number(found[1]), Number(found[2])];
  return from <= to ? hour >= from && hour < to : hour >= from || hour < to;
}

export function television({ turnTo, reload, state }) {
  const asked = new URLSearchParams(location.search);
  if (asked.get('tv') !== '1') return;

  const wake = () => document.hidden || navigator.wakeLock?.request('screen').catch(() => {});
  document.addEventListener('visibilitychange', wake);
  wake();

  let timer = setTimeout(hide, CURSOR_MS);
  addEventListener('pointermove', () => {
    root.classList.remove('no-cursor');
    clearTimeout(timer);
    timer = setTimeout(hide, CURSOR_MS);
  });

  let step = 0;
  setInterval(() => {
    if (root.classList.contains('paused')) return;
    step = (step + 1) % SHIFTS.length;
    const [x, y] = SHIFTS[step];
    document.body.style.translate = `${x}px ${y}px`;
  }, SHIFT_MS);

  const hour = () => Number(state()?.clock.slice(0, 2) ?? 12);
  let reloadedOn = null;
  setInterval(() => {
    root.classList.toggle('night', isNight(hour(), asked.get('night')));
    const day = state()?.day;
    if (reloadedOn === null && day) reloadedOn = hour() >= RELOAD_HOUR ? day : '';
    if (day && hour() === RELOAD_HOUR && reloadedOn !== day) {
      reloadedOn = day;
      reload();
    }
  }, 1000);

  const every = interval(asked.get('rotate'));
  if (every) {
    setInterval(() => {
      const paths = (state()?.pages ?? []).map((page) => page.path);
      if (paths.length < 2 || root.classList.contains('paused')) return;
      turnTo(paths[(paths.indexOf(root.dataset.page) + 1) % paths.length]);
    }, every);
  }
}
