// An event stream that looks like a WebSocket, so that everything above it stays
// the same: the first frames become the request, acknowledgements requests of
// their own, comments pings, and the last event the close.

import { CLOSE_CODES } from './close.js';
import { textOf } from './errors.js';
import type { ClientFrame, ServerFrame } from './frames.js';
import { runtime, type Answer, type ParsedUrl, type Timer, type WebSocketLike } from './runtime.js';
import type { Positions } from './types.js';

/** A node takes no longer head of a request, and these statuses say that somebody on the way takes less. */
const HEAD_BYTES_MAX = 16_384;
const TOO_LONG = [414, 431];
const TOO_LONG_ADVICE =
  'the address of the event stream, which names all topics and positions, is too long: subscribe to fewer topics, ' +
  'or let WebSockets through';

/** A node that cannot take an acknowledgement just now says when it can. */
const BUSY = [429, 503];
const RETRY_AFTER_S_MAX = 60;

/** What statuses that no new try can help would be as close codes. */
const CODES: Record<number, number> = { 401: 4403, 403: 4001, 422: 4002 };

export class EventStream implements WebSocketLike {
  readyState = 0;
  onopen: ((event: object) => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror = null;
  readonly #url: ParsedUrl;
  readonly #abort = new runtime.AbortController();
  #token: string | undefined;
  /** Acknowledged, and taken by no node yet. */
  #unheard: Positions = {};
  #rest: Timer;

  constructor(url: string) {
    this.#url = new runtime.URL(url);
    this.#url.protocol = this.#url.protocol.replace('ws', 'http');
    this.#url.pathname = this.#url.pathname.replace(/ws\/?$/, 'events');
    this.#url.searchParams.delete('resume');
    // Not before whoever made it has said what to do then.
    runtime.queueMicrotask(() => {
      if (this.readyState > 0) return;
      this.readyState = 1;
      this.onopen?.({});
    });
  }

  send(text: string): void {
    const frame = JSON.parse(text) as ClientFrame;
    if (frame.type === 'auth') this.#token = frame.token;
    if (frame.type === 'resume') {
      const url = new runtime.URL(this.#url.href);
      url.searchParams.set('positions', JSON.stringify(frame.positions));
      for (const topic of frame.topics ?? []) url.searchParams.append('topic', topic);
      void this.#attempt(async () => this.#read(await this.#fetch(url, { signal: this.#abort.signal })));
    }
    // A stream's topics are those of its request: another one begins where this one was.
    if (/subscribe/.test(frame.type)) this.#end(CLOSE_CODES.moved, 'other topics are wanted');
    if (frame.type === 'ack') {
      Object.assign(this.#unheard, frame.positions);
      if (this.#rest === undefined) void this.#attempt(() => this.#acknowledge());
    }
  }

  close(): void {
    this.readyState = 3;
    this.#abort.abort();
    if (this.#rest === undefined) return;
    runtime.clearTimeout(this.#rest);
    this.#rest = undefined;
    void this.#attempt(() => this.#acknowledge());
  }

  async #acknowledge(): Promise<void> {
    const positions = this.#unheard;
    this.#unheard = {};
    const url = new runtime.URL(this.#url.href);
    url.pathname += '/acks';
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ positions });
    // Goes out although the page does.
    const answer = await this.#fetch(url, { method: 'POST', keepalive: true, headers, body }, BUSY);
    // The next connection tells all of it again.
    if (!BUSY.includes(answer.status) || this.readyState === 3) return;
    // What was acknowledged meanwhile is further on.
    this.#unheard = { ...positions, ...this.#unheard };
    const seconds = Math.min(Number(answer.headers.get('retry-after')) || 1, RETRY_AFTER_S_MAX);
    this.#rest ??= runtime.setTimeout(
      () => {
        this.#rest = undefined;
        void this.#attempt(() => this.#acknowledge());
      },
      seconds * 1_000 * (1 + Math.random()),
    );
  }

  #end(code: number, reason: string): void {
    if (this.readyState === 3) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  /** What fails ends the connection: the next one begins where this one was. */
  async #attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#end(1006, textOf(error));
    }
  }

  async #fetch(url: ParsedUrl, init: Record<string, unknown>, spared: number[] = []): Promise<Answer> {
    const headers: Record<string, string> = { ...(init.headers as object) };
    if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`;
    if (url.href.length > HEAD_BYTES_MAX) this.#tooLong();
    const answer = await runtime.fetch!(url.href, { cache: 'no-store', credentials: 'include', ...init, headers });
    if (TOO_LONG.includes(answer.status)) this.#tooLong();
    if (!answer.ok && !spared.includes(answer.status)) {
      this.#end(CODES[answer.status] ?? 1006, detail(await answer.text()) ?? `the node answered ${answer.status}`);
    }
    return answer;
  }

  /** Tried again all the same: fewer topics may be wanted then. */
  #tooLong(): never {
    this.#tell({ type: 'error', code: 'too_long', message: TOO_LONG_ADVICE });
    throw new Error(TOO_LONG_ADVICE);
  }

  async #read(answer: Answer): Promise<void> {
    const reader = answer.body!.getReader();
    const decoder = new runtime.TextDecoder();
    let rest = '';
    while (this.readyState === 1) {
      const { done, value } = await reader.read();
      if (done) return this.#end(1006, 'the stream ended');
      // A blank line ends an event: the nodes end their lines with a line feed.
      const blocks = (rest + decoder.decode(value, { stream: true })).split('\n\n');
      rest = blocks.pop()!;
      for (const block of blocks) this.#take(block);
    }
  }

  #tell(frame: ServerFrame): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  #take(block: string): void {
    if (block.startsWith(':')) return this.#tell({ type: 'ping' });
    const lines = block.split('\n').filter((line) => line.startsWith('data: '));
    const data = lines.map((line) => line.slice(6)).join('\n');
    const last = /^event: close$/m.test(block) ? JSON.parse(data) : undefined;
    if (last) this.#end(last.code, last.reason);
    else if (data) this.onmessage?.({ data });
  }
}

/** What a problem document says, if that is what it is. */
function detail(text: string): string | undefined {
  try {
    return JSON.parse(text).detail;
  } catch {
    return undefined;
  }
}
