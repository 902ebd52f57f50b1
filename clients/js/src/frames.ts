// The envelopes of postrider.v1+json, as src/protocol/frame.rs writes and reads them.

import type { Gap, Positions, Session } from './types.js';

export const SUBPROTOCOL = 'postrider.v1+json';

export interface Hello extends Omit<Session, 'transport'> {
  type: 'hello';
  positions: Positions;
  heartbeat_ms: number;
}

export interface MessageFrame {
  type: 'message';
  id: string;
  channel: string;
  pos?: string;
  ts: number;
  data: unknown;
}

export type ServerFrame =
  | Hello
  | MessageFrame
  | { type: 'subscribed'; topics: string[]; positions: Positions }
  | ({ type: 'gap' } & Gap)
  | { type: 'ping' }
  | { type: 'drain'; reconnect_after_ms: number }
  | { type: 'reauth'; within_ms: number }
  | { type: 'error'; code: string; message: string; topics?: string[] };

export type ClientFrame =
  | { type: 'auth'; token: string }
  | { type: 'resume'; positions: Positions; topics?: string[] }
  | { type: 'ack'; positions: Positions }
  | { type: 'subscribe'; topics: string[]; positions: Positions }
  | { type: 'unsubscribe'; topics: string[] }
  | { type: 'pong' };

/** An envelope, of a type that this release knows or not. */
export function decode(text: unknown): ServerFrame | undefined {
  try {
    const frame = JSON.parse(text as string);
    return typeof frame?.type === 'string' ? frame : undefined;
  } catch {
    return undefined;
  }
}
