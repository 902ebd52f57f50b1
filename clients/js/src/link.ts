// One WebSocket, from dialling to its end. Knows envelopes, but no policy: what
// follows an end is its owner's decision, who is told exactly once, or not at
// all after close().

import { decode, SUBPROTOCOL, type ClientFrame, type ServerFrame } from './frames.js';
import { runtime, type Timer, type WebSocketConstructor, type WebSocketLike } from './runtime.js';

export interface LinkOwner {
  opened(): void;
  /** A frame, or undefined for one that is no envelope. */
  frame(frame: ServerFrame | undefined): void;
  closed(code: number, reason: string): void;
}

const ignore = () => {};

export class Link {
  readonly #socket: WebSocketLike;
  readonly #owner: LinkOwner;
  #timer: Timer;
  #heardAt = Date.now();
  #silenceMsMax = Infinity;

  constructor(Socket: WebSocketConstructor, url: string, timeoutMs: number, owner: LinkOwner) {
    this.#owner = owner;
    const socket = (this.#socket = new Socket(url, [SUBPROTOCOL]));
    socket.onopen = () => owner.opened();
    socket.onmessage = ({ data }) => {
      this.#heardAt = Date.now();
      owner.frame(decode(data));
    };
    // Deno says 0 where others say 1006: no close came.
    socket.onclose = ({ code, reason }) => this.#end(code || 1006, reason || 'the connection broke');
    // A close follows every error, and says more.
    socket.onerror = ignore;
    this.#timer = runtime.setTimeout(
      () => this.#end(1006, `no session within ${timeoutMs} ms`),
      timeoutMs,
    );
  }

  send(frame: ClientFrame): void {
    // Sending on a socket that closes is an error in some runtimes; the close is on its way.
    if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  /** From now on, silence for this long is the end. */
  watch(silenceMsMax: number): void {
    this.#silenceMsMax = silenceMsMax;
    this.check();
  }

  /** Ends the link if nothing was heard for too long, timers being late in hidden pages and sleep. */
  check(): void {
    if (this.#silenceMsMax === Infinity) return;
    runtime.clearTimeout(this.#timer);
    const silenceMs = Date.now() - this.#heardAt;
    if (silenceMs >= this.#silenceMsMax) return this.#end(1006, `nothing was heard for ${silenceMs} ms`);
    // A clock that was set back must not postpone this further than one silence,
    // and timers hold 31 bits.
    const restMs = Math.min(this.#silenceMsMax - silenceMs, this.#silenceMsMax, 2 ** 31 - 1);
    this.#timer = runtime.setTimeout(() => this.check(), restMs);
  }

  /** Leaves; the owner hears nothing more. */
  close(reason: string): void {
    runtime.clearTimeout(this.#timer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Some report an error for a socket closed while connecting: somebody must listen.
    socket.onerror = ignore;
    socket.close(1000, reason);
  }

  #end(code: number, reason: string): void {
    this.close('the client gave up');
    this.#owner.closed(code, reason);
  }
}
