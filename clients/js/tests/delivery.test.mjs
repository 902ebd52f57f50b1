// Messages, positions, acknowledgements: what is given, once, and what is said back.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect, memoryStorage, webStorage } from 'postrider';
import { CHANNEL, FakeServer, pos, record, settle } from './support/fake.mjs';

const NODE = 'http://node.test';
let server;

beforeEach(() => {
  server = new FakeServer();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
});
afterEach(() => mock.timers.reset());

async function connected(options = {}, hello = {}) {
  const connection = connect(NODE, { WebSocket: server.WebSocket, transport: 'websocket', ...options });
  const seen = record(connection);
  await settle();
  await server.last.hello(hello);
  return { connection, seen, peer: server.last };
}

/** Lets the longest backoff pass, so that a lost connection is dialled again. */
async function reconnected(hello = {}) {
  mock.timers.tick(30_000);
  await settle();
  await server.last.hello(hello);
  return server.last;
}

const numbers = (seen) => seen.messages.map(({ data }) => data);

test('a message is given with all that it came with', async () => {
  const { seen, peer } = await connected();
  await peer.message(1, { data: { text: 'grüße ☕' } });
  const [{ ack, ...message }] = seen.messages;
  assert.deepEqual(message, { id: 'id1', channel: CHANNEL, pos: pos(1), ts: 1, data: { text: 'grüße ☕' } });
  assert.equal(typeof ack, 'function');
});

test('a reconnect resumes behind the last message given', async () => {
  const { seen, peer } = await connected();
  assert.deepEqual(peer.frames, [{ type: 'resume', positions: {} }]);
  await peer.message(1);
  await peer.message(2);
  await peer.close(1006);
  const next = await reconnected();
  assert.deepEqual(next.frames, [{ type: 'resume', positions: { [CHANNEL]: pos(2) } }]);
  await next.message(3);
  assert.deepEqual(numbers(seen), [1, 2, 3]);
});

test('a session that received nothing resumes where it began', async () => {
  const { peer } = await connected({ from: 'now' }, { positions: { [CHANNEL]: pos(41) } });
  assert.equal(peer.url.searchParams.get('from'), 'now');
  await peer.close(1006);
  const next = await reconnected();
  assert.deepEqual(next.of('resume')[0].positions, { [CHANNEL]: pos(41) });
});

test('what comes twice is given once, and moves the position all the same', async () => {
  const { connection, seen, peer } = await connected();
  await peer.message(1);
  await peer.message(2, { id: 'id1' });
  assert.deepEqual(numbers(seen), [1]);
  assert.deepEqual(connection.positions, { [CHANNEL]: pos(2) });
  await peer.message(3, { id: 'id1', channel: 'topic:news' });
  assert.deepEqual(numbers(seen), [1, 3], 'one id in two channels is two messages');
});

test('only so many ids are remembered', async () => {
  const { seen, peer } = await connected({ idsMax: 2 });
  for (const seq of [1, 2, 3, 2, 1]) await peer.message(seq);
  assert.deepEqual(numbers(seen), [1, 2, 3, 1]);
});

test('acknowledgements are collected', async () => {
  const { peer } = await connected({ device: 'phone' });
  for (const seq of [1, 2, 3]) await peer.message(seq);
  mock.timers.tick(249);
  assert.deepEqual(peer.of('ack'), []);
  mock.timers.tick(1);
  assert.deepEqual(peer.of('ack'), [{ type: 'ack', positions: { [CHANNEL]: pos(3) } }]);
  mock.timers.tick(10_000);
  assert.equal(peer.of('ack').length, 1);
});

test('a heartbeat takes acknowledgements along', async () => {
  const { peer } = await connected({ device: 'phone' });
  await peer.message(1);
  await peer.send({ type: 'ping' });
  assert.deepEqual(peer.frames.slice(1), [
    { type: 'ack', positions: { [CHANNEL]: pos(1) } },
    { type: 'pong' },
  ]);
});

test('an acknowledgement that may have been lost is sent again', async () => {
  const { peer } = await connected({ device: 'phone' });
  await peer.message(1);
  mock.timers.tick(250);
  await peer.close(1006);
  const next = await reconnected();
  mock.timers.tick(250);
  assert.deepEqual(next.of('ack'), [{ type: 'ack', positions: { [CHANNEL]: pos(1) } }]);
});

test('without a name nothing is acknowledged', async () => {
  const { peer } = await connected();
  await peer.message(1);
  mock.timers.tick(1_000);
  assert.deepEqual(peer.of('ack'), []);
});

test('manual acknowledgement is cumulative and never goes back', async () => {
  const { seen, peer } = await connected({ device: 'phone', ack: 'manual' });
  for (const seq of [1, 2, 3]) await peer.message(seq);
  mock.timers.tick(1_000);
  assert.deepEqual(peer.of('ack'), []);
  seen.messages[1].ack();
  seen.messages[0].ack();
  mock.timers.tick(1_000);
  assert.deepEqual(peer.of('ack'), [{ type: 'ack', positions: { [CHANNEL]: pos(2) } }]);
});

test('what was given but not acknowledged comes again after a reload, not after a reconnect', async () => {
  const storage = memoryStorage();
  const { connection, seen, peer } = await connected({ ack: 'manual', storage });
  for (const seq of [1, 2, 3]) await peer.message(seq);
  seen.messages[1].ack();
  await peer.close(1006);
  const next = await reconnected();
  assert.deepEqual(next.of('resume')[0].positions, { [CHANNEL]: pos(3) });
  await connection.close();

  const reloaded = await connected({ ack: 'manual', storage });
  assert.deepEqual(reloaded.peer.of('resume')[0].positions, { [CHANNEL]: pos(2) });
});

test('a reload goes on behind the last message, without another step', async () => {
  const map = new Map();
  const local = { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => void map.set(key, value) };
  const first = await connected({ storage: webStorage('mine', local) });
  await first.peer.message(1);
  await first.peer.message(2);
  // The page is gone: nothing of the first connection runs any more.
  const second = await connected({ storage: webStorage('mine', local) });
  assert.deepEqual(second.peer.of('resume')[0].positions, { [CHANNEL]: pos(2) });
});

test('a slow storage gets one save at a time, and the latest position last', async () => {
  const saves = [];
  const storage = { load: async () => null, save: (positions) => new Promise((done) => saves.push({ positions, done })) };
  const { connection, peer } = await connected({ storage });
  for (const seq of [1, 2, 3]) await peer.message(seq);
  assert.deepEqual(saves.map(({ positions }) => positions), [{ [CHANNEL]: pos(0) }]);
  let closed = false;
  void connection.close().then(() => (closed = true));
  saves[0].done();
  await settle();
  assert.deepEqual(saves[1].positions, { [CHANNEL]: pos(3) });
  assert.equal(closed, false, 'close waits for the save');
  saves[1].done();
  await settle();
  assert.equal(closed, true);
  assert.equal(saves.length, 2);
});

test('a storage that fails is reported once and keeps nothing from being delivered', async () => {
  const broken = () => {
    throw new Error('quota exceeded');
  };
  const { seen, peer } = await connected({ storage: { load: broken, save: broken } });
  for (const seq of [1, 2]) await peer.message(seq);
  assert.deepEqual(numbers(seen), [1, 2]);
  assert.deepEqual(seen.errors.map(({ code, message }) => [code, message]), [
    ['storage', 'positions are not kept: quota exceeded'],
    ['storage', 'positions are not kept: quota exceeded'],
  ]);
});

test('a storage that never answers does not keep the connection away', async () => {
  connect(NODE, { WebSocket: server.WebSocket, transport: 'websocket', storage: { load: () => new Promise(() => {}), save() {} } }).on('message', () => {});
  await settle();
  mock.timers.tick(10_000);
  await settle();
  assert.equal(server.peers.length, 1);
});

test('what the storage holds need not be a position', async () => {
  const storage = memoryStorage();
  storage.save({ [CHANNEL]: 'nonsense', other: 7 });
  const connection = connect(NODE, { WebSocket: server.WebSocket, transport: 'websocket', storage });
  const seen = record(connection);
  await settle();
  await server.last.accept();
  assert.deepEqual(server.last.frames, [{ type: 'resume', positions: { [CHANNEL]: 'nonsense' } }]);
  await server.last.send({ type: 'error', code: 'bad_frame', message: 'not an envelope: not a position' });
  assert.deepEqual(server.last.frames[1], { type: 'resume', positions: {} });
  assert.equal(seen.errors[0].code, 'bad_frame');
  assert.deepEqual(storage.load(), {});
});

test('a gap is told, and told again only to who has not heard of it', async () => {
  const storage = memoryStorage();
  const { seen, peer } = await connected({ device: 'phone', storage });
  await peer.message(1);
  await peer.send({ type: 'gap', channel: CHANNEL, from: pos(1), to: pos(9), reason: 'trimmed' });
  assert.deepEqual(seen.gaps, [{ channel: CHANNEL, from: pos(1), to: pos(9), reason: 'trimmed' }]);
  assert.deepEqual(storage.load(), { [CHANNEL]: pos(9) });
  mock.timers.tick(250);
  assert.deepEqual(peer.of('ack'), [{ type: 'ack', positions: { [CHANNEL]: pos(9) } }]);
  await peer.send({ type: 'gap', channel: CHANNEL, from: pos(9), to: null, reason: 'reset' });
  assert.deepEqual(storage.load(), {}, 'the channel is unknown now, and so is its position');
});

test('an ephemeral message moves nothing', async () => {
  const { connection, seen, peer } = await connected({ device: 'phone' });
  await peer.message(5, { pos: undefined });
  seen.messages[0].ack();
  mock.timers.tick(1_000);
  assert.deepEqual(numbers(seen), [5]);
  assert.deepEqual(connection.positions, { [CHANNEL]: pos(0) });
  assert.deepEqual(peer.of('ack'), []);
});

test('a listener that throws is reported, and the others and the next message are served', async () => {
  const { connection, seen, peer } = await connected();
  const off = connection.on('message', () => {
    throw new Error('mine');
  });
  const after = [];
  connection.on('message', ({ data }) => after.push(data));
  await peer.message(1);
  off();
  await peer.message(2);
  assert.deepEqual(after, [1, 2]);
  assert.deepEqual(seen.errors.map(({ code, cause }) => [code, cause.message]), [['listener', 'mine']]);
});

test('frames and fields of later releases are passed over, and what is no frame is reported', async () => {
  const { connection, seen, peer } = await connected({}, { novelty: 1 });
  await peer.send({ type: 'novelty' });
  await peer.send('{"no": "type"}');
  await peer.send('<html>');
  assert.deepEqual(seen.errors.map(({ code }) => code), ['bad_frame', 'bad_frame']);
  assert.equal(connection.state, 'connected');
});

test('a socket that is closing is not written to', async () => {
  const { connection, peer } = await connected({ device: 'phone' });
  await peer.message(1);
  peer.socket.readyState = 2;
  mock.timers.tick(250);
  assert.deepEqual(peer.of('ack'), []);
  assert.equal(connection.state, 'connected');
});

test('a listener that is added by another hears from the next message on', async () => {
  const { connection, peer } = await connected();
  const late = [];
  const off = connection.on('message', () => {
    off();
    connection.on('message', ({ data }) => late.push(data));
  });
  await peer.message(1);
  await peer.message(2);
  assert.deepEqual(late, [2]);
});

test('a listener that closes the connection gets nothing more', async () => {
  const { connection, seen, peer } = await connected({ device: 'phone' });
  connection.on('message', () => void connection.close());
  await peer.message(1);
  await peer.message(2);
  assert.deepEqual(numbers(seen), [1]);
  assert.deepEqual(peer.closedWith, { code: 1000, reason: 'closed by the application' });
});
