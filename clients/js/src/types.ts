import type { PostriderError } from './errors.js';
import type { PositionStorage } from './storage.js';
import type { WebSocketConstructor } from './runtime.js';

/** Where `connect` goes, and how. */
export interface Options {
  /**
   * Gives the user's token. Called before the first connection, and again when a node has refused
   * the token (`refused` is true then: do not answer from a cache). Throw {@link UnauthorizedError}
   * to end the connection; any other error is tried again later. Leave it out when a cookie or the
   * URL carries the token.
   */
  getToken?: ((context: { refused: boolean }) => string | Promise<string>) | undefined;
  /**
   * A stable name of this device or browser, 1 to 64 of `A-Z a-z 0-9 . _ -`. The server remembers
   * what each device acknowledged; without a name, acknowledgements are neither sent nor kept.
   */
  device?: string | undefined;
  /** Where positions survive a page reload: {@link webStorage} or your own. In memory unless given. */
  storage?: PositionStorage | undefined;
  /**
   * Where to begin without a position: `now`, or `oldest` for all that is kept. Unless given, after
   * what this device (without a name: any device of the user) received last.
   */
  from?: 'now' | 'oldest' | undefined;
  /**
   * `auto`: a message is acknowledged when your listeners have returned. `manual`: when you call
   * `message.ack()`; what was not acknowledged comes again after a reload.
   */
  ack?: 'auto' | 'manual' | undefined;
  /** Acknowledgements are collected for this long. 250 unless given. */
  ackIntervalMs?: number | undefined;
  /** Reconnects wait a random time below this, doubled at each failure. 1,000 unless given. */
  backoffMs?: number | undefined;
  /** The doubling ends here. 30,000 unless given. */
  backoffMsMax?: number | undefined;
  /** How long getting a token, and after it connecting, may each take. 10,000 unless given. */
  connectTimeoutMs?: number | undefined;
  /** How much later than announced a heartbeat may be. 10,000 unless given. */
  heartbeatGraceMs?: number | undefined;
  /** How many ids are remembered to recognise what came twice. 1,000 unless given. */
  idsMax?: number | undefined;
  /**
   * `websocket`, `sse` (server-sent events), or `auto`: event streams where no WebSocket can be
   * opened. `auto` unless given.
   */
  transport?: 'auto' | Transport | undefined;
  /** The WebSocket to use; the runtime's own unless given. Node.js before 22 has none: pass that of `ws`. */
  WebSocket?: WebSocketConstructor | undefined;
}

/** What a session goes over. */
export type Transport = 'websocket' | 'sse';

/** Positions by channel: where delivery goes on. Opaque; keep them as they are. */
export type Positions = Record<string, string>;

/** A message. */
export interface Message<T = unknown> {
  /** Its ULID. */
  readonly id: string;
  /** What it was addressed to, like `user:alice`. */
  readonly channel: string;
  /** Its position in the channel; undefined for one that was pushed with `ttl: 0`. */
  readonly pos: string | undefined;
  /** When it was accepted: milliseconds since 1970. */
  readonly ts: number;
  /** What was pushed. */
  readonly data: T;
  /**
   * Acknowledges this message and all before it in its channel. Only of use with `ack: 'manual'`;
   * calling it twice, late, or in another order does no harm.
   */
  ack(): void;
}

/** Messages that were lost for this device: fetch your state anew. */
export interface Gap {
  readonly channel: string;
  /** The last position before them, if there was one. */
  readonly from: string | null;
  /** The last of them, if it is known. */
  readonly to: string | null;
  /** `trimmed` (more than the mailbox keeps, or for too long) or `reset` (the store lost them). */
  readonly reason: string;
}

/** `connecting` includes waiting for the next try; `disconnected` lasts until `connect()` is called. */
export type State = 'disconnected' | 'connecting' | 'connected';

/** Who and where one is while connected. */
export interface Session {
  readonly session: string;
  readonly node: string;
  readonly user: string;
  readonly device: string | null;
  readonly transport: Transport;
  /** Whether delivery goes on behind the positions given and nothing was lost. */
  readonly resumed: boolean;
}

/** The state changed, or another try failed. */
export interface StateChange {
  readonly state: State;
  readonly previous: State;
  /** The close code that led here (1006: no close came), if any. */
  readonly code: number | undefined;
  /** Why, for people. */
  readonly reason: string;
  /** While connecting: in how many milliseconds the next try begins. */
  readonly retryInMs: number | undefined;
  /** While connected. */
  readonly session: Session | undefined;
}

/** What can be listened to. */
export interface Events<T> {
  message: Message<T>;
  gap: Gap;
  state: StateChange;
  error: PostriderError;
}

/** An address as a text or a URL. */
export type Address = string | { readonly href: string };

/** A connection that keeps itself up. Made by `connect`. */
export interface Connection<T = unknown> {
  readonly state: State;
  /** Who and where one is, while connected. */
  readonly session: Session | undefined;
  /** Where delivery would go on now, by channel. */
  readonly positions: Positions;
  /** Topics that are listened to, as far as is known here. */
  readonly topics: readonly string[];
  /**
   * Listens to topics as well: one, or several. Those that the token does not allow, or that are too
   * many, are reported as an `error` and given up; the others are kept up across reconnects.
   */
  subscribe(topics: string | readonly string[]): void;
  /** No longer listens to topics: nothing of them is given any more, and their positions are forgotten. */
  unsubscribe(topics: string | readonly string[]): void;
  /** Listens. Returns what ends it. */
  on<E extends keyof Events<T>>(event: E, listener: (event: Events<T>[E]) => void): () => void;
  /** Dials at once: to start without a listener, to start again, or instead of waiting for the next try. */
  connect(): void;
  /** Acknowledges what is to be acknowledged and leaves. Settles when positions are saved. */
  close(): Promise<void>;
}
