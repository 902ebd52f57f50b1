import { PostriderError, textOf } from './errors.js';
import { runtime } from './runtime.js';
import type { Events } from './types.js';

type Listeners<T> = { [E in keyof Events<T>]: Set<(event: Events<T>[E]) => void> };

export class Emitter<T> {
  readonly #listeners: Listeners<T> = {
    message: new Set(),
    gap: new Set(),
    state: new Set(),
    error: new Set(),
  };

  add<E extends keyof Events<T>>(event: E, listener: (event: Events<T>[E]) => void): () => void {
    const listeners = this.#listeners[event];
    if (!listeners) throw new TypeError(`no event is called ${event}`);
    // Wrapped, so that adding a function twice calls it twice and removes it once.
    const own = (value: Events<T>[E]) => listener(value);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  /** Tells every listener. One that throws keeps neither the others nor the connection from going on. */
  emit<E extends keyof Events<T>>(event: E, value: Events<T>[E]): void {
    for (const listener of [...this.#listeners[event]]) {
      try {
        listener(value);
      } catch (error) {
        this.#threw(event, error);
      }
    }
  }

  #threw(event: keyof Events<T>, error: unknown): void {
    if (event !== 'error' && this.#listeners.error.size > 0) {
      const text = `a listener for ${event} threw: ${textOf(error)}`;
      return this.emit('error', new PostriderError('listener', text, error));
    }
    // Nobody would hear of it: let the runtime report it as it reports others.
    runtime.queueMicrotask(() => {
      throw error;
    });
  }
}
