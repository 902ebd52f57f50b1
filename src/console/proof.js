// Numbered messages, counted as they come back: what is lost or comes twice shows.
import { call, Refusal } from './api.js';
import { h, say } from './dom.js';

const PAUSE_MS = 50;

/** A run of `total` numbered pushes to one user, and their count. */
export class Proof {
  constructor(user, place) {
    Object.assign(this, { user, place, run: undefined });
    this.fields = {};
    const cell = (name, text) => {
      const value = (this.fields[name] = h('dd', {}, '0'));
      return h('div', {}, h('dt', {}, text), value);
    };
    place.append(
      cell('sent', 'Accepted'), cell('received', 'Received'), cell('waiting', 'On the way'),
      cell('twice', 'Twice'), cell('disorder', 'Out of order'),
    );
  }

  get running() {
    return Boolean(this.run?.sending);
  }

  async start(total, onstate) {
    const run = (this.run = { id: crypto.randomUUID().slice(0, 8), sent: 0, seen: new Map(), last: 0, disorder: 0, sending: true });
    this.show();
    for (let n = 1; n <= total && run.sending; n += 1) {
      await this.push(run, n, onstate);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    run.sending = false;
    onstate('sent');
  }

  /** As a good sender does: again and again, under one key, until it is accepted. */
  async push(run, n, onstate) {
    while (run.sending) {
      try {
        const body = { to: `user:${this.user}`, data: { proof: run.id, n }, ttl: 600 };
        await call('POST', '/v1/push', { body, headers: { 'idempotency-key': `${run.id}-${n}` } });
        run.sent = n;
        this.show();
        onstate('sending');
        return;
      } catch (error) {
        if (error instanceof Refusal && error.status >= 400 && error.status < 500) {
          run.sending = false;
          onstate('refused', error.message);
          return;
        }
        onstate('retrying', error.message);
        await new Promise((resolve) => setTimeout(resolve, 400));
      }
    }
  }

  stop() {
    if (this.run) this.run.sending = false;
  }

  /** Whether the message was one of the run's. */
  take(data) {
    const { run } = this;
    if (typeof data?.proof !== 'string') return false;
    if (!run || data.proof !== run.id) return true;
    run.seen.set(data.n, (run.seen.get(data.n) ?? 0) + 1);
    if (data.n < run.last) run.disorder += 1;
    run.last = data.n;
    this.show();
    return true;
  }

  get verdict() {
    const { sent, seen, disorder } = this.run ?? { sent: 0, seen: new Map(), disorder: 0 };
    const twice = [...seen.values()].filter((times) => times > 1).length;
    return { sent, received: seen.size, waiting: Math.max(sent - seen.size, 0), twice, disorder };
  }

  show() {
    const verdict = this.verdict;
    for (const [name, value] of Object.entries(verdict)) say(this.fields[name], value.toLocaleString('en'));
    const done = verdict.sent > 0 && !this.running && verdict.waiting === 0;
    this.fields.received.className = done ? 'good' : '';
    this.fields.twice.className = verdict.twice ? 'bad' : '';
    this.fields.disorder.className = verdict.disorder ? 'bad' : '';
  }
}
