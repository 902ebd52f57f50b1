// Browsers say when waiting is over. Here they are played with the globals that they have.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect } from 'postrider';
import { FakeServer, record, settle } from './support/fake.mjs';

let server, connection, seen;

beforeEach(async () => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  globalThis.dispatchEvent = page.dispatchEvent.bind(page);
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
  mock.method(Math, 'random', () => 1);
  server = new FakeServer();
  connection = connect('http://node.test', { WebSocket: server.WebSocket, transport: 'websocket', device: 'tab' });
  seen = record(connection);
  await settle();
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  for (const name of ['addEventListener', 'removeEventListener', 'dispatchEvent', 'document']) delete globalThis[name];
});

async function happens(type, target = globalThis) {
  target.dispatchEvent(new Event(type));
  await settle();
}

async function becomes(visibilityState) {
  document.visibilityState = visibilityState;
  await happens('visibilitychange', document);
}

test('the network that is back ends the waiting', async () => {
  await server.last.close(1006);
  await happens('online');
  assert.equal(server.peers.length, 2);
});

test('the network that is back replaces a connection of before', async () => {
  await server.last.hello();
  await server.last.message(1);
  await happens('online');
  const [old, next] = server.peers;
  assert.equal(old.of('ack').length, 1);
  assert.ok(old.closedWith);
  await next.hello();
  assert.deepEqual(Object.keys(next.of('resume')[0].positions), ['user:alice']);
  assert.equal(connection.state, 'connected');
});

test('a page that is looked at ends the waiting', async () => {
  await server.last.close(1006);
  await becomes('hidden');
  assert.equal(server.peers.length, 1);
  await becomes('visible');
  assert.equal(server.peers.length, 2);
});

for (const [what, wake] of [
  ['looked at after a sleep', () => becomes('visible')],
  ['shown again out of the cache', () => happens('pageshow')],
]) {
  test(`a page that is ${what} notices a dead connection at once`, async () => {
    await server.last.hello();
    // While a page sleeps the clock goes on and its timers do not.
    const now = Date.now();
    mock.method(Date, 'now', () => now + 3_600_000);
    await wake();
    assert.equal(seen.states.at(-1).reason, 'nothing was heard for 3600000 ms');
  });
}

test('a page that is looked at leaves a good connection alone', async () => {
  await server.last.hello();
  await becomes('visible');
  await happens('pageshow');
  assert.equal(connection.state, 'connected');
  assert.equal(server.peers.length, 1);
});

test('a page that is about to go acknowledges first', async () => {
  await server.last.hello();
  await server.last.message(1);
  await happens('pagehide');
  assert.equal(server.last.of('ack').length, 1);
  await server.last.message(2);
  await becomes('hidden');
  assert.equal(server.last.of('ack').length, 2);
});

test('a closed connection is not woken', async () => {
  await server.last.hello();
  await connection.close();
  await happens('online');
  await becomes('visible');
  assert.equal(connection.state, 'disconnected');
  assert.equal(server.peers.length, 1);
});
