import { runtime } from './runtime.js';
import type { Positions } from './types.js';

/** Where positions are kept. Both may answer at once or with a promise. */
export interface PositionStorage {
  /** What was saved last; nothing if nothing was. */
  load(): Positions | null | undefined | Promise<Positions | null | undefined>;
  /** Keeps these instead. Never called again before the promise it returned is settled. */
  save(positions: Positions): void | Promise<void>;
}

/** Keeps positions for as long as the object lives: to hand them from one connection to the next. */
export function memoryStorage(): PositionStorage {
  let kept: Positions | undefined;
  return { load: () => kept, save: (positions) => void (kept = positions) };
}

interface WebStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/**
 * Keeps positions in `localStorage`, or in the storage given: `sessionStorage` is right where
 * several tabs are open at once, since each then goes on from where it was itself.
 */
export function webStorage(key = 'postrider', storage?: WebStorage): PositionStorage {
  // Looked up at each use: where it is forbidden, the very access throws, and is reported then.
  const open = () => {
    const found = storage ?? (runtime as { localStorage?: WebStorage }).localStorage;
    if (!found) throw new TypeError('this runtime has no localStorage: pass a storage');
    return found;
  };
  return {
    load: () => JSON.parse(open().getItem(key) ?? 'null'),
    save: (positions) => open().setItem(key, JSON.stringify(positions)),
  };
}
