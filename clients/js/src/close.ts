// Close codes: the server's table, and what its ranges tell a client to do.
// tests/close.test.mjs compares both with src/protocol/close.rs.

/** The codes that a node closes with, by name. */
export const CLOSE_CODES = {
  normal: 1000,
  going_away: 1001,
  protocol: 1002,
  unsupported: 1003,
  invalid_data: 1007,
  too_big: 1009,
  internal: 1011,
  restart: 1012,
  overloaded: 1013,
  disconnected: 4000,
  origin: 4001,
  bad_handshake: 4002,
  slow: 4101,
  unresponsive: 4102,
  store_away: 4103,
  user_limit: 4104,
  moved: 4200,
  expired: 4401,
  token: 4403,
  topic: 4404,
} as const;

/** What follows a close: nothing more, a new try (later or at once), or a try with a new token. */
export type AfterClose = 'stop' | 'backoff' | 'now' | 'token';

/** What a close code tells a client to do. Ranges decide, so codes of later releases are understood. */
export function afterClose(code: number): AfterClose {
  switch (Math.floor(code / 100)) {
    case 40:
      return 'stop';
    case 42:
      return 'now';
    case 44:
      return 'token';
  }
  // The last frame was at fault: sending it again would end the same way.
  if ([1002, 1003, 1007, 1008, 1009].includes(code)) return 'stop';
  // Whatever else it is, not knowing must neither give up nor hammer.
  return 'backoff';
}
