// The policy: when to dial, with which token and positions, and what follows an
// end. Every dial has a number; whatever answers late to an earlier one is not
// listened to.

import { address } from './address.js';
import { Backoff } from './backoff.js';
import { afterClose, CLOSE_CODES } from './close.js';
import { Emitter } from './emitter.js';
import { isUnauthorized, PostriderError, textOf } from './errors.js';
import { EventStream } from './events.js';
import type { Hello, MessageFrame, ServerFrame } from './frames.js';
import { Link } from './link.js';
import { Progress } from './progress.js';
import { Recent } from './recent.js';
import { runtime, type Timer, type WebSocketConstructor } from './runtime.js';
import { Topics } from './topics.js';
import type { Address, Connection, Events, Gap, Options, Positions, Session, State, Transport } from './types.js';
import { wakeOn } from './wake.js';
import { within } from './within.js';

/** Uptime after which earlier failures no longer count. */
const STABLE_MS = 5_000;

/**
 * Connects to a node, or to the load balancer before them, and stays connected. Of several
 * addresses another one is tried after each failure.
 *
 * Dialling begins with the first listener for messages, so that none can be missed.
 */
export function connect<T = unknown>(url: Address | readonly Address[], options: Options = {}): Connection<T> {
  const urls = (Array.isArray(url) ? url : [url]).map((one: Address) => address(one, options));
  if (urls.length === 0) throw new TypeError('an address is needed');
  const { transport = 'auto' } = options;
  const Socket = transport === 'sse' ? undefined : (options.WebSocket ?? runtime.WebSocket);
  const Stream = transport === 'websocket' || !runtime.fetch ? undefined : EventStream;
  if (!Socket && !Stream) {
    throw new TypeError('this runtime has no WebSocket: install the package ws and pass { WebSocket }');
  }
  return new Keeper<T>(urls, Socket, Stream, options);
}

class Keeper<T> implements Connection<T> {
  readonly #urls: readonly string[];
  readonly #Socket: WebSocketConstructor | undefined;
  readonly #Stream: WebSocketConstructor | undefined;
  readonly #options: Options;
  readonly #events = new Emitter<T>();
  readonly #progress: Progress;
  readonly #topics = new Topics();
  readonly #recent: Recent;
  readonly #backoff: Backoff;
  readonly #timeoutMs: number;

  #state: State = 'disconnected';
  #session: Session | undefined;
  #link: Link | undefined;
  /** What the link goes over, or the next one will. */
  #transport: Transport;
  /** Whether the link was opened, whatever came of it then. */
  #opened = false;
  /** How often only an event stream could be opened, since a WebSocket was the last time. */
  #blocked = 0;
  #dials = 0;
  #urlAt = 0;
  #token: string | undefined;
  /** The dial for which the token was got. */
  #tokenDial = 0;
  /** A token was refused, and none accepted since. */
  #refused = false;
  /** Nothing failed since the last stable connection: a reconnect need not wait. */
  #fresh = true;
  /** The same of tokens. */
  #renewed = false;
  /** When the draining node asked this client to be elsewhere. */
  #leaveAt: number | undefined;
  #retryTimer: Timer;
  #stableTimer: Timer;
  #drainTimer: Timer;
  #ackTimer: Timer;
  #sleep: (() => void) | undefined;

  constructor(
    urls: readonly string[],
    Socket: WebSocketConstructor | undefined,
    Stream: WebSocketConstructor | undefined,
    options: Options,
  ) {
    this.#urls = urls;
    this.#Socket = Socket;
    this.#Stream = Stream;
    this.#transport = Socket ? 'websocket' : 'sse';
    this.#options = options;
    this.#timeoutMs = options.connectTimeoutMs ?? 10_000;
    this.#recent = new Recent(options.idsMax ?? 1_000);
    this.#backoff = new Backoff(options.backoffMs ?? 1_000, options.backoffMsMax ?? 30_000);
    this.#progress = new Progress(options.storage, this.#topics, (error) =>
      this.#report('storage', `positions are not kept: ${textOf(error)}`, error),
    );
  }

  get state(): State {
    return this.#state;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  get positions(): Positions {
    return this.#progress.positions();
  }

  get topics(): readonly string[] {
    return this.#topics.list();
  }

  subscribe(topics: string | readonly string[]): void {
    this.#topics.add([topics].flat());
    this.#tellTopics();
  }

  unsubscribe(topics: string | readonly string[]): void {
    for (const channel of this.#topics.remove([topics].flat())) this.#progress.forget(channel);
    this.#tellTopics();
  }

  #tellTopics(): void {
    if (this.#state !== 'connected') return;
    const left = this.#topics.leaving();
    if (left) this.#link?.send({ type: 'unsubscribe', topics: left });
    const wish = this.#topics.joining(this.positions);
    if (wish) this.#link?.send({ type: 'subscribe', ...wish });
  }

  on<E extends keyof Events<T>>(event: E, listener: (event: Events<T>[E]) => void): () => void {
    const off = this.#events.add(event, listener);
    if (event === 'message' && this.#dials === 0) {
      // After the listeners that are added next.
      this.#dials = 1;
      runtime.queueMicrotask(() => this.#dials === 1 && this.connect());
    }
    return off;
  }

  connect(): void {
    if (this.#state === 'connected') return;
    if (this.#state === 'disconnected') {
      this.#refused = false;
      this.#steady();
      this.#sleep = wakeOn({
        online: () => this.#online(),
        visible: () => this.#visible(),
        hidden: () => this.#flush(),
      });
      this.#redial('connecting');
    } else if (this.#retryTimer !== undefined) {
      void this.#dial();
    }
  }

  close(): Promise<void> {
    this.#dials += 1;
    this.#leave('closed by the application');
    if (this.#state !== 'disconnected') {
      this.#end(CLOSE_CODES.normal, 'closed by the application');
    }
    return this.#progress.saved();
  }

  async #dial(): Promise<void> {
    this.#stop();
    const dial = (this.#dials += 1);
    await this.#progress.load(this.#timeoutMs);
    if (dial !== this.#dials) return;
    const { getToken } = this.#options;
    if (getToken && this.#token === undefined) {
      try {
        const asked = Promise.resolve(getToken({ refused: this.#refused }));
        const token = await within(this.#timeoutMs, asked);
        if (dial !== this.#dials) return;
        this.#token = token;
        this.#tokenDial = dial;
      } catch (error) {
        return this.#tokenless(dial, error);
      }
    }
    this.#open();
  }

  #tokenless(dial: number, error: unknown): void {
    if (dial !== this.#dials) return;
    if (isUnauthorized(error)) return this.#end(CLOSE_CODES.token, error.message);
    const text = `getToken failed: ${textOf(error)}`;
    this.#report('token', text, error);
    // A listener may have closed the connection.
    if (dial === this.#dials) this.#retry(undefined, text, this.#backoff.next());
  }

  #open(): void {
    const url = this.#urls[this.#urlAt % this.#urls.length] as string;
    try {
      this.#opened = false;
      const Wire = (this.#transport === 'sse' ? this.#Stream : this.#Socket) as WebSocketConstructor;
      const link = (this.#link = new Link(Wire, url, this.#timeoutMs, {
        opened: () => {
          this.#opened = true;
          if (this.#token !== undefined) link.send({ type: 'auth', token: this.#token });
          this.#resume(link);
        },
        frame: (frame) => this.#frame(link, frame),
        closed: (code, reason) => this.#lost(code, reason),
      }));
    } catch (error) {
      // A page may not open this address at all (mixed content, a policy): no second try will do.
      this.#end(undefined, textOf(error));
    }
  }

  #resume(link: Link): void {
    const topics = this.#topics.restart();
    link.send({ type: 'resume', positions: this.#topics.toResume(this.positions), ...(topics.length > 0 && { topics }) });
  }

  #frame(link: Link, frame: ServerFrame | undefined): void {
    switch (frame?.type) {
      case undefined:
        return this.#report('bad_frame', 'what came is no envelope');
      case 'hello':
        return this.#greeted(link, frame);
      case 'message':
        return this.#message(frame);
      case 'subscribed':
        return this.#subscribed(frame.positions);
      case 'gap':
        return this.#gap(frame);
      case 'ping':
        this.#flush();
        return link.send({ type: 'pong' });
      case 'drain':
        return this.#drain(frame.reconnect_after_ms);
      case 'reauth':
        return void this.#reauthenticate(link, frame.within_ms);
      case 'error':
        if (frame.code === 'bad_frame' && this.#state === 'connecting') {
          // The storage held what never was a position. Without it, the device's cursor decides.
          this.#progress.forget();
          this.#resume(link);
        }
        return this.#refusal(frame.code, frame.message, frame.topics);
    }
  }

  #greeted(link: Link, hello: Hello): void {
    const { session, node, user, device, resumed } = hello;
    this.#refused = false;
    link.watch(hello.heartbeat_ms + (this.#options.heartbeatGraceMs ?? 10_000));
    this.#stableTimer = runtime.setTimeout(() => this.#steady(), STABLE_MS);
    const transport = this.#transport;
    this.#session = { session, node, user, device, transport, resumed };
    this.#blocked = transport === 'sse' ? this.#blocked + 1 : 0;
    this.#topics.own = `user:${user}`;
    this.#progress.begin(hello.positions);
    this.#progress.tellAgain();
    this.#ackSoon();
    this.#become('connected', undefined, `connected to node ${node}`);
    this.#tellTopics();
  }

  #subscribed(positions: Positions): void {
    const wanted = Object.entries(positions).filter(([channel]) => !this.#topics.hasLeft(channel));
    this.#progress.begin(Object.fromEntries(wanted));
  }

  /** Topics that were refused are given up, unless the node only could not just then. */
  #refusal(code: string, message: string, topics: string[] = []): void {
    if (code === 'store_away') {
      this.#leave(message);
      return this.#lost(CLOSE_CODES.store_away, message);
    }
    for (const channel of this.#topics.remove(topics)) this.#progress.forget(channel);
    this.#topics.leaving();
    this.#report(code, topics.length > 0 ? `${topics.join(', ')}: ${message}` : message);
  }

  #message({ id, channel, pos, ts, data }: MessageFrame): void {
    if (this.#topics.hasLeft(channel)) return;
    const isNew = this.#recent.add(`${channel} ${id}`);
    const acknowledge = pos === undefined ? () => false : this.#progress.give(channel, pos);
    const ack = () => void (acknowledge() && this.#ackSoon());
    if (isNew) this.#events.emit('message', { id, channel, pos, ts, data: data as T, ack });
    if (this.#options.ack !== 'manual') ack();
  }

  #gap({ channel, from, to, reason }: Gap): void {
    if (this.#topics.hasLeft(channel)) return;
    const acknowledge = to === null ? undefined : this.#progress.give(channel, to);
    this.#events.emit('gap', { channel, from, to, reason });
    // Told again after a reload unless its listeners have heard of it.
    if (!acknowledge) this.#progress.forget(channel);
    else if (this.#options.ack !== 'manual' && acknowledge()) this.#ackSoon();
  }

  #drain(afterMs: number): void {
    this.#leaveAt = Date.now() + afterMs;
    runtime.clearTimeout(this.#drainTimer);
    this.#drainTimer = runtime.setTimeout(() => {
      this.#leave('the node drains');
      this.#lost(CLOSE_CODES.restart, 'the node drains');
    }, afterMs);
  }

  /** The link is gone; what follows is in the code's range. */
  #lost(code: number, reason: string): void {
    this.#link = undefined;
    this.#urlAt += 1;
    this.#choose();
    const leaveInMs = this.#leaveAt === undefined ? undefined : Math.max(0, this.#leaveAt - Date.now());
    this.#stop();
    const after = afterClose(code);
    if (after === 'token') return this.#renew(code, reason);
    if (after === 'stop') {
      // Nothing of ours is large but the names and positions of many topics.
      const advice = code === CLOSE_CODES.too_big ? ': subscribe to fewer topics, or raise frame_bytes_max' : '';
      return this.#end(code, reason + advice);
    }
    // The drain has spread its clients already: the moment it named needs no further jitter.
    const atOnce = after === 'now' || leaveInMs !== undefined;
    const delayMs = atOnce && this.#fresh ? 0 : this.#backoff.next();
    this.#fresh = false;
    this.#retry(code, reason, Math.max(delayMs, leaveInMs ?? 0));
  }

  /**
   * Where a WebSocket could not be opened an event stream is tried next, and the other way round. A
   * stream that worked is left for a WebSocket again, until that has failed twice: a node may just
   * have been starting, or a proxy may really be in the way.
   */
  #choose(): void {
    if (!this.#Socket || !this.#Stream) return;
    if (this.#transport === 'sse') {
      if (!this.#session || this.#blocked < 2) this.#transport = 'websocket';
    } else if (!this.#opened) this.#transport = 'sse';
  }

  /** The token was refused: the next one, unless it was asked for in answer to a refusal. */
  #renew(code: number, reason: string): void {
    const brandNew = this.#refused && this.#tokenDial === this.#dials;
    if (brandNew || !this.#options.getToken) return this.#end(code, reason);
    const delayMs = this.#renewed ? this.#backoff.next() : 0;
    this.#refused = this.#renewed = true;
    this.#token = undefined;
    this.#retry(code, reason, delayMs);
  }

  /** The token ends soon: the next one keeps this session. Without one, its end is told by the close. */
  async #reauthenticate(link: Link, withinMs: number): Promise<void> {
    const { getToken } = this.#options;
    if (!getToken) return;
    const dial = this.#dials;
    try {
      const token = await within(Math.min(withinMs, this.#timeoutMs), Promise.resolve(getToken({ refused: false })));
      if (dial !== this.#dials) return;
      this.#token = token;
      this.#tokenDial = dial;
      link.send({ type: 'auth', token });
    } catch (error) {
      if (dial === this.#dials) this.#report('token', `getToken failed: ${textOf(error)}`, error);
    }
  }

  #steady(): void {
    this.#fresh = true;
    this.#renewed = false;
    this.#backoff.reset();
  }

  #retry(code: number | undefined, reason: string, delayMs: number): void {
    this.#retryTimer = runtime.setTimeout(() => void this.#dial(), delayMs);
    this.#become('connecting', code, reason, delayMs);
  }

  #end(code: number | undefined, reason: string): void {
    this.#stop();
    this.#dials += 1;
    this.#link = undefined;
    this.#token = undefined;
    this.#sleep?.();
    this.#become('disconnected', code, reason);
  }

  /** Whatever is planned for the link, or for the next one, is off. */
  #stop(): void {
    for (const timer of [this.#retryTimer, this.#stableTimer, this.#drainTimer, this.#ackTimer]) {
      runtime.clearTimeout(timer);
    }
    this.#retryTimer = this.#ackTimer = this.#leaveAt = undefined;
  }

  #leave(reason: string): void {
    this.#flush();
    this.#link?.close(reason);
    this.#link = undefined;
  }

  #online(): void {
    this.#leave('the network changed');
    this.#redial('the network changed');
  }

  #redial(reason: string): void {
    this.#stop();
    const dials = this.#dials;
    this.#become('connecting', undefined, reason, 0);
    // A listener may have closed the connection, or dialled by itself.
    if (dials === this.#dials) void this.#dial();
  }

  #visible(): void {
    if (this.#retryTimer !== undefined) void this.#dial();
    else this.#link?.check();
  }

  #ackSoon(): void {
    this.#ackTimer ??= runtime.setTimeout(() => this.#flush(), this.#options.ackIntervalMs ?? 250);
  }

  #flush(): void {
    runtime.clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    // A nameless session has nothing to acknowledge: written counts as received.
    if (!this.#link || !this.#session?.device) return;
    const positions = this.#progress.takeUnsent();
    if (positions) this.#link.send({ type: 'ack', positions });
  }

  #become(state: State, code: number | undefined, reason: string, retryInMs?: number): void {
    const previous = this.#state;
    this.#state = state;
    if (state !== 'connected') this.#session = undefined;
    this.#events.emit('state', { state, previous, code, reason, retryInMs, session: this.#session });
  }

  #report(code: string, message: string, cause?: unknown): void {
    this.#events.emit('error', new PostriderError(code, message, cause));
  }
}
