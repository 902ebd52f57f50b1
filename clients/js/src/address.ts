import { runtime } from './runtime.js';
import type { Address, Options } from './types.js';

/** The WebSocket address of what the application named: http and https are as good as ws and wss. */
export function address(url: Address, options: Options): string {
  const text = typeof url === 'string' ? url : url.href;
  const parsed = new runtime.URL(text, runtime.location?.href);
  parsed.protocol = parsed.protocol.replace(/^http/, 'ws');
  if (!/^wss?:$/.test(parsed.protocol)) {
    throw new TypeError(`${text} is no address of a node: use one like https://push.example`);
  }
  if (parsed.pathname === '/') parsed.pathname = '/v1/ws';
  parsed.hash = '';
  const { searchParams: query } = parsed;
  // The first frames say where to begin: a token needs no log, and positions no length limit.
  query.set('resume', '1');
  if (options.device !== undefined) query.set('device', options.device);
  if (options.from !== undefined) query.set('from', options.from);
  return parsed.href;
}
