// Which channels a connection listens to: topics, as its owner wants it and as
// the node knows it, and the two that every session has.

import type { Positions } from './types.js';

const channelOf = (topic: string) => `topic:${topic}`;
const isTopic = (channel: string) => channel.startsWith('topic:');
const nameOf = (topic: string) => topic.replace(/^topic:/, '');

/** What the node has to be told. */
export interface Wish {
  topics: string[];
  positions: Positions;
}

export class Topics {
  /** The user's own channel, since it is known. */
  own: string | undefined;
  readonly #wanted = new Set<string>();
  /** What this link's node was told of. */
  readonly #told = new Set<string>();
  /** What was given up on this link: the last of it may be on its way. */
  readonly #left = new Set<string>();

  list(): string[] {
    return [...this.#wanted];
  }

  get size(): number {
    return this.#wanted.size;
  }

  has(channel: string): boolean {
    return channel === this.own || channel === 'all' || (isTopic(channel) && this.#wanted.has(nameOf(channel)));
  }

  /** What there is to tell before it is known whose the session will be. */
  toResume(positions: Positions): Positions {
    return Object.fromEntries(Object.entries(positions).filter(([channel]) => !isTopic(channel) || this.has(channel)));
  }

  add(topics: readonly string[]): void {
    for (const topic of topics) this.#wanted.add(nameOf(topic));
  }

  /** Returns the channels that were given up. */
  remove(topics: readonly string[]): string[] {
    const names = topics.map(nameOf);
    return names.filter((name) => this.#wanted.delete(name)).map(channelOf);
  }

  /** Another link: its node knows of nothing. */
  restart(): string[] {
    this.#told.clear();
    this.#left.clear();
    const topics = this.list();
    for (const topic of topics) this.#told.add(topic);
    return topics;
  }

  /** Topics that the node has not been told of, and where to go on in them. */
  joining(positions: Positions): Wish | undefined {
    const topics = this.list().filter((topic) => !this.#told.has(topic));
    if (topics.length === 0) return undefined;
    const known: Positions = {};
    for (const topic of topics) {
      this.#told.add(topic);
      this.#left.delete(channelOf(topic));
      const pos = positions[channelOf(topic)];
      if (pos !== undefined) known[channelOf(topic)] = pos;
    }
    return { topics, positions: known };
  }

  /** Topics that the node has to be told are no longer wanted. */
  leaving(): string[] | undefined {
    const topics = [...this.#told].filter((topic) => !this.#wanted.has(topic));
    for (const topic of topics) {
      this.#told.delete(topic);
      this.#left.add(channelOf(topic));
    }
    return topics.length > 0 ? topics : undefined;
  }

  /** Whether a channel was given up, so that nothing of it is to be shown any more. */
  hasLeft(channel: string): boolean {
    return this.#left.has(channel);
  }
}
