// Compiled, never run: what an application may write, and what it may not.
import {
  afterClose,
  connect,
  memoryStorage,
  UnauthorizedError,
  webStorage,
  type Connection,
  type Message,
  type PositionStorage,
} from 'postrider';
import WebSocket from 'ws';

interface Order {
  order: number;
}

const connection: Connection<Order> = connect<Order>(['https://a.example', new URL('https://b.example')], {
  WebSocket,
  device: 'phone',
  storage: webStorage(),
  ack: 'manual',
  getToken: async ({ refused }) => {
    if (refused) throw new UnauthorizedError('logged out');
    return 'token';
  },
});
const off: () => void = connection.on('message', (message: Message<Order>) => {
  const order: number = message.data.order;
  message.ack();
  return order;
});
connection.on('gap', ({ from, to, reason }) => [from, to, reason]);
connection.on('state', ({ state, code, reason, retryInMs }) => state === 'connected' && [code, reason, retryInMs]);
connection.on('error', ({ code, message, cause }) => [code, message, cause]);
connection.subscribe('orders.42');
connection.unsubscribe(['orders.42', ...connection.topics]);
off();
await connection.close();

const own: PositionStorage = { load: async () => null, save: async (positions) => void positions['user:alice'] };
connect('wss://a.example', { storage: own });
connect('wss://a.example', { storage: memoryStorage(), getToken: () => 'token', from: 'now', device: undefined });
const next: 'stop' | 'backoff' | 'now' | 'token' = afterClose(4403);
void next;

// @ts-expect-error: what was pushed is not known unless it is said
connect('wss://a.example').on('message', ({ data }) => data.order);
// @ts-expect-error: no such event
connection.on('open', () => {});
// @ts-expect-error: no such option
connect('wss://a.example', { tokens: [] });
// @ts-expect-error: only these two
connect('wss://a.example', { from: 'yesterday' });
