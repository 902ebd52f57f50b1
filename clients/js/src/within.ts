import { runtime, type Timer } from './runtime.js';

/** Gives up on a promise that takes too long. */
export async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  let timer: Timer;
  const late = new Promise<never>((_, reject) => {
    timer = runtime.setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    runtime.clearTimeout(timer);
  }
}
