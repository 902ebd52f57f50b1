// How far each channel is: given to listeners, acknowledged, saved.
//
// A connection resumes from what was given; a later page (or process) from what
// was acknowledged, which is what the storage holds. With automatic
// acknowledgement both are the same. Positions are opaque here, so their order
// is the order in which they came.

import type { PositionStorage } from './storage.js';
import type { Positions } from './types.js';
import { within } from './within.js';

/**
 * Users and topics that one storage remembers: of more, those longest untouched are forgotten, but none that is wanted.
 * What an earlier page left may be wanted in a moment.
 */
const CHANNELS_MAX = 200;
/** Beyond as many topics as are wanted: the user's own channel, everyone's, and some that were left. */
const CHANNELS_MORE = 20;

/** What a connection listens to. */
export interface Wanted {
  readonly size: number;
  has(channel: string): boolean;
}

interface Mark {
  pos: string;
  order: number;
}

export class Progress {
  readonly #given = new Map<string, string>();
  readonly #acked = new Map<string, Mark>();
  /** Acknowledged by this object, and not yet told to the node. */
  readonly #unsent = new Map<string, string>();
  /** Acknowledged by this object: told again after a reconnect, since the last may have been lost. */
  readonly #told = new Map<string, string>();
  readonly #storage: PositionStorage | undefined;
  readonly #wanted: Wanted;
  readonly #failed: (error: unknown) => void;
  #channelsMax = CHANNELS_MAX;
  #orders = 0;
  #changed = false;
  #saving: Promise<void> | undefined;
  #loading: Promise<void> | undefined;
  #ill = false;

  constructor(storage: PositionStorage | undefined, wanted: Wanted, failed: (error: unknown) => void) {
    this.#storage = storage;
    this.#wanted = wanted;
    this.#failed = failed;
  }

  /** Reads what an earlier connection left, at the first call. */
  load(timeoutMs: number): Promise<void> {
    return (this.#loading ??= this.#load(timeoutMs));
  }

  async #load(timeoutMs: number): Promise<void> {
    if (!this.#storage) return;
    try {
      const saved = (await within(timeoutMs, Promise.resolve(this.#storage.load()))) ?? {};
      const entries = Object.entries(saved);
      this.#channelsMax = Math.max(CHANNELS_MAX, entries.length);
      for (const [channel, pos] of entries) {
        if (typeof pos === 'string') this.#start(channel, pos);
      }
    } catch (error) {
      // Going on without is what a first visit does; the device's cursor still holds.
      this.#failed(error);
    }
  }

  /** Where to resume. */
  positions(): Positions {
    return Object.fromEntries(this.#given);
  }

  /** A session began here: where nothing is known, that is where to resume. */
  begin(positions: Positions): void {
    for (const [channel, pos] of Object.entries(positions)) {
      if (!this.#given.has(channel)) {
        this.#start(channel, pos);
        this.#changed = true;
      }
    }
    this.#save();
  }

  /** A node that may not have heard what the last one was told: tell it again. */
  tellAgain(): void {
    for (const [channel, pos] of this.#told) this.#unsent.set(channel, pos);
  }

  #start(channel: string, pos: string): void {
    this.#put(this.#given, channel, pos);
    this.#put(this.#acked, channel, { pos, order: 0 });
  }

  /** Everything up to here was given to the listeners. Returns what acknowledges it. */
  give(channel: string, pos: string): () => boolean {
    this.#put(this.#given, channel, pos);
    this.#orders += 1;
    const order = this.#orders;
    return () => this.#ack(channel, { pos, order });
  }

  /** Nothing that was known of a channel means anything any more. */
  forget(channel?: string): void {
    for (const map of [this.#given, this.#acked, this.#unsent, this.#told]) {
      if (channel === undefined) map.clear();
      else map.delete(channel);
    }
    this.#changed = true;
    this.#save();
  }

  /** Whether that was new. */
  #ack(channel: string, mark: Mark): boolean {
    if (mark.order <= (this.#acked.get(channel)?.order ?? 0)) return false;
    this.#put(this.#acked, channel, mark);
    this.#put(this.#unsent, channel, mark.pos);
    this.#put(this.#told, channel, mark.pos);
    this.#changed = true;
    this.#save();
    return true;
  }

  /** What the node should be told, if anything. */
  takeUnsent(): Positions | undefined {
    if (this.#unsent.size === 0) return undefined;
    const positions = Object.fromEntries(this.#unsent);
    this.#unsent.clear();
    return positions;
  }

  /** Settles when everything acknowledged so far is saved. */
  async saved(): Promise<void> {
    while (this.#saving) await this.#saving;
  }

  /** At once where the storage answers at once; else one save at a time, the latest state next. */
  #save(): void {
    if (!this.#storage || this.#saving || !this.#changed) return;
    this.#changed = false;
    try {
      const positions: Positions = {};
      for (const [channel, { pos }] of this.#acked) positions[channel] = pos;
      const saving = this.#storage.save(positions);
      if (!saving) return this.#wrote();
      this.#saving = saving.then(() => this.#wrote(), (error) => this.#wrote(error)).then(() => {
        this.#saving = undefined;
        this.#save();
      });
    } catch (error) {
      this.#wrote(error);
    }
  }

  /** A storage that is full or forbidden is reported once, not for every message. */
  #wrote(error?: unknown): void {
    if (error !== undefined && !this.#ill) this.#failed(error);
    this.#ill = error !== undefined;
  }

  /** Sets a key and makes it the last one that would be forgotten. */
  #put<V>(map: Map<string, V>, key: string, value: V): void {
    map.delete(key);
    map.set(key, value);
    if (map.size <= Math.max(this.#channelsMax, this.#wanted.size + CHANNELS_MORE)) return;
    for (const oldest of map.keys()) {
      if (this.#wanted.has(oldest)) continue;
      map.delete(oldest);
      break;
    }
  }
}
