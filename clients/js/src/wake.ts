// Moments at which waiting any longer is wrong, where a runtime has them.

import { runtime } from './runtime.js';

export interface Waking {
  /** The network came back: addresses may have changed, and old sockets be dead without a sign. */
  online(): void;
  /** The page is looked at again; timers may have slept. */
  visible(): void;
  /** The page is about to sleep or to go. */
  hidden(): void;
}

/** Listens until the returned function is called. */
export function wakeOn({ online, visible, hidden }: Waking): () => void {
  const { document } = runtime;
  const looked = () => (document?.visibilityState === 'hidden' ? hidden() : visible());
  runtime.addEventListener?.('online', online);
  runtime.addEventListener?.('pagehide', hidden);
  runtime.addEventListener?.('pageshow', visible);
  document?.addEventListener('visibilitychange', looked);
  return () => {
    runtime.removeEventListener?.('online', online);
    runtime.removeEventListener?.('pagehide', hidden);
    runtime.removeEventListener?.('pageshow', visible);
    document?.removeEventListener('visibilitychange', looked);
  };
}
