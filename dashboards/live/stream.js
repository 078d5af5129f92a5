// The connection to the server: one stream of events, watched by the page's own clock.
//
// A browser gives up for good on a proxy's 502 and notices a half-open connection never, so this file trusts
// neither: whatever goes wrong, it makes a new EventSource, later each time. While the stream is silent it asks for
// the whole state by plain requests; the first answer calls the stream back at once.

export const LATE_MS = 3000;
export const STALE_MS = 13500; // so that it is said within fifteen seconds, by a busy browser too
const SILENT_MS = 4000; // then it asks by itself,
const ASK_MS = 2500; // again after so long while there is no answer,
const POLL_MS = 5000; // and after so long while answers are all there is
const ATTEMPT_MS = 10000; // an attempt that has brought nothing by then is given up
const PAUSE_MS = [1000, 2000, 4000, 8000, 16000, 30000];

export class Stream {
  /** `onState(state)` gets each new state, `onBeat(at_ms)` each sign of life. */
  constructor(path, { onState, onBeat }) {
    Object.assign(this, { path, onState, onBeat });
    this.state = null;
    this.failures = 0;
    this.retryAt = 0;
    this.asking = false;
    this.askAt = 0;
    this.heard();
    this.connect();
    this.timer = setInterval(() => this.watch(), 500);
    this.wake = () => this.watch(true);
    addEventListener('online', this.wake);
    addEventListener('pageshow', this.wake);
    document.addEventListener('visibilitychange', this.wake);
  }

  /** Wall time goes on while a machine sleeps, monotonic time is not set back: the longer of both is true. */
  age() {
    return Math.max(Date.now() - this.heardWall, performance.now() - this.heardMono);
  }

  heard() {
    this.heardWall = Date.now();
    this.heardMono = performance.now();
  }

  /** Whether the connection was refused or broke, and did not come back at once. */
  lost() {
    return this.failures > 1 && this.age() > LATE_MS;
  }

  /** In how many milliseconds the stream is tried again; 0 while it is being tried or stands. */
  retryIn() {
    return this.source ? 0 : Math.max(0, this.retryAt - performance.now());
  }

  connect() {
    this.drop();
    this.attemptAt = performance.now();
    const source = new EventSource(`/api/v1/live?page=${encodeURIComponent(this.path)}`);
    this.source = source;
    const take = (name, use) => source.addEventListener(name, (event) => {
      if (source !== this.source) return;
      let message = null;
      try {
        message = JSON.parse(event.data);
      } catch {
        this.fail();
        return;
      }
      this.failures = 0;
      this.streaming = true;
      this.polling = false;
      this.heard();
      use(message);
    });
    take('state', (state) => this.whole(state));
    take('change', (change) => this.change(change));
    take('beat', (beat) => this.onBeat(beat.at_ms));
    source.onerror = () => source === this.source && this.fail();
  }

  drop() {
    this.source?.close();
    this.source = null;
    this.streaming = false;
  }

  fail() {
    this.drop();
    const pause = PAUSE_MS[Math.min(this.failures, PAUSE_MS.length - 1)];
    this.failures += 1;
    this.retryAt = performance.now() + pause * (0.75 + Math.random() / 2);
  }

  whole(state) {
    this.state = state;
    this.onState(state);
    this.onBeat(state.at_ms);
  }

  /** Figures come one by one, everything else as it is; what a change was made against must be what is here. */
  change(change) {
    if (!this.state || change.since !== this.state.version) {
      this.connect();
      return;
    }
    const { since, order, figures, ...rest } = change;
    const known = new Map(this.state.figures.map((figure) => [figure.id, figure]));
    for (const figure of figures ?? []) known.set(figure.id, figure);
    const ids = order ?? this.state.figures.map((figure) => figure.id);
    this.whole({ ...this.state, ...rest, figures: ids.map((id) => known.get(id)).filter(Boolean) });
  }

  /** Looks at the clock: is it silent, is it time to try again? */
  watch(woken) {
    const now = performance.now();
    const age = this.age();
    if (this.source) {
      const waited = now - this.attemptAt;
      if (age > STALE_MS && waited > STALE_MS) this.connect();
      else if (!this.streaming && waited > ATTEMPT_MS) this.fail();
    } else if (now >= this.retryAt || (woken && !document.hidden)) {
      this.connect();
    }
    if ((age > SILENT_MS || this.polling) && !this.asking && now >= this.askAt) this.ask();
  }

  async ask() {
    this.asking = true;
    this.askAt = performance.now() + ASK_MS * (0.8 + Math.random() / 4);
    try {
      const answer = await fetch(`/api/v1/live.json?page=${encodeURIComponent(this.path)}`, {
        cache: 'no-store', signal: AbortSignal.timeout(ASK_MS),
      });
      if (!answer.ok || this.timer === null) return;
      const state = await answer.json();
      const silent = this.age() > SILENT_MS;
      this.heard();
      this.polling = !this.streaming || silent;
      this.askAt = performance.now() + POLL_MS * (0.8 + Math.random() / 4);
      if (silent || !this.state || state.at_ms >= this.state.at_ms) this.whole(state);
      // The server is there, so the stream need not wait; one that stands and is silent is made anew.
      if (!this.source || (this.streaming && silent)) {
        this.failures = Math.min(this.failures, 2);
        this.connect();
      }
    } catch {
      // Not there: the next question comes by itself.
    } finally {
      this.asking = false;
    }
  }

  close() {
    clearInterval(this.timer);
    this.timer = null;
    this.drop();
    removeEventListener('online', this.wake);
    removeEventListener('pageshow', this.wake);
    document.removeEventListener('visibilitychange', this.wake);
  }
}
