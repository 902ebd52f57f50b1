// Server-sent events in place of a WebSocket: when, and that all else is the same.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect, memoryStorage } from 'postrider';
import { CHANNEL, FakeServer, pos, record, settle } from './support/fake.mjs';

const NODE = 'http://node.test';
let server, requests, answer;

/** A node's answer that a test writes bit by bit. */
class Stream {
  constructor({ status = 200, body, headers } = {}) {
    const source = { start: (controller) => (this.controller = controller) };
    this.response = new Response(body === undefined ? new ReadableStream(source) : body, { status, headers });
  }

  async write(text) {
    this.controller.enqueue(new TextEncoder().encode(text));
    await turn();
  }

  event(type, data) {
    return this.write(`id: x\nevent: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`);
  }

  hello() {
    const about = { session: 's1', node: 'n1', user: 'alice', device: 'tab', resumed: false };
    return this.event('hello', { ...about, positions: { [CHANNEL]: pos(0) }, heartbeat_ms: 25_000 });
  }

  message(seq) {
    return this.event('message', { id: `id${seq}`, channel: CHANNEL, pos: pos(seq), ts: seq, data: seq });
  }

  async end() {
    this.controller.close();
    await turn();
  }
}

/** Streams answer in turns of the event loop, which mocked timers leave alone. */
async function turn() {
  for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets the next try begin. */
const retried = (seen) => pass(seen.states.at(-1).retryInMs);

async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
  await turn();
}

beforeEach(() => {
  server = new FakeServer();
  requests = [];
  answer = () => new Stream();
  mock.method(globalThis, 'fetch', async (url, init) => {
    const request = { url: new URL(url), init };
    requests.push(request);
    request.stream = answer(request);
    return request.stream.response;
  });
  mock.method(Math, 'random', () => 0.5);
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

async function dialling(options = {}) {
  const connection = connect(NODE, { WebSocket: server.WebSocket, device: 'tab', getToken: () => 'secret', ...options });
  const seen = record(connection);
  await settle();
  await turn();
  return { connection, seen };
}

test('a stream that is asked for is a session like any other', async () => {
  const { connection, seen } = await dialling({ transport: 'sse', from: 'oldest' });
  assert.equal(server.peers.length, 0);
  const [{ url, init, stream }] = requests;
  assert.equal(url.pathname, '/v1/events');
  assert.deepEqual(Object.fromEntries(url.searchParams), { device: 'tab', from: 'oldest', positions: '{}' });
  assert.equal(init.headers.authorization, 'Bearer secret');
  await stream.write('retry: 1000\n\n');
  await stream.hello();
  assert.deepEqual([connection.state, connection.session.transport], ['connected', 'sse']);
  // Events come in pieces, characters cut in the middle, data over several lines.
  const bytes = new TextEncoder().encode(`event: message\ndata: {"type":"message","id":"a","channel":"${CHANNEL}",\ndata: "pos":"${pos(1)}","ts":1,"data":"☕"}\n\n`);
  for (const byte of bytes) stream.controller.enqueue(Uint8Array.of(byte));
  await turn();
  await stream.message(2);
  await stream.message(2);
  assert.deepEqual(seen.messages.map(({ data }) => data), ['☕', 2]);
  answer = () => new Stream({ status: 204, body: null });
  await pass(250);
  const ack = requests[1];
  assert.deepEqual([ack.url.pathname, ack.init.method, ack.init.keepalive], ['/v1/events/acks', 'POST', true]);
  assert.deepEqual(JSON.parse(ack.init.body), { positions: { [CHANNEL]: pos(2) } });
  await connection.close();
  assert.equal(init.signal.aborted, true);
  assert.deepEqual(seen.errors, []);
});

test('it resumes from positions, and its last event is its close', async () => {
  const { connection, seen } = await dialling({ transport: 'sse' });
  await requests[0].stream.hello();
  await requests[0].stream.message(1);
  await requests[0].stream.event('close', { code: 1012, reason: 'this node restarts' });
  assert.deepEqual([seen.states.at(-1).code, seen.states.at(-1).reason], [1012, 'this node restarts']);
  await pass(500);
  const listens = requests.filter(({ url }) => url.pathname === '/v1/events');
  assert.deepEqual(JSON.parse(listens[1].url.searchParams.get('positions')), { [CHANNEL]: pos(1) });
  await listens[1].stream.event('close', { code: 4000, reason: 'disconnected' });
  assert.deepEqual([connection.state, seen.states.at(-1).code], ['disconnected', 4000]);
});

test('statuses are what close codes are to a socket', async () => {
  for (const [status, code, state] of [
    [401, 4403, 'disconnected'],
    [403, 4001, 'disconnected'],
    [422, 4002, 'disconnected'],
    [503, 1006, 'connecting'],
  ]) {
    answer = () => new Stream({ status, body: '{"detail":"because"}' });
    const { connection, seen } = await dialling({ transport: 'sse', getToken: undefined });
    assert.deepEqual([seen.states.at(-1).code, seen.states.at(-1).reason], [code, 'because']);
    assert.equal(connection.state, state);
    await connection.close();
  }
});

test('an address that is too long is an error that says so, and is tried again', async () => {
  answer = () => new Stream({ status: 431, body: '' });
  const { connection, seen } = await dialling({ transport: 'sse' });
  assert.deepEqual(seen.errors.map(({ code }) => code), ['too_long']);
  assert.match(seen.states.at(-1).reason, /fewer topics/);
  // More than any node takes is not even asked for: where pages of other origins ask, the answer cannot be read.
  answer = () => new Stream();
  const topics = Array.from({ length: 500 }, (_, at) => `a.topic.with.a.long.name.${at}`);
  connection.subscribe(topics);
  await retried(seen);
  assert.deepEqual([seen.errors.length, requests.length], [2, 1]);
  connection.unsubscribe(topics);
  await retried(seen);
  await requests[1].stream.hello();
  assert.equal(connection.state, 'connected');
  await connection.close();
});

test('it is asked for with the positions of what is wanted now', async () => {
  const storage = memoryStorage();
  storage.save({ [CHANNEL]: pos(3), 'topic:news': pos(1), 'topic:old': pos(2) });
  const connection = connect(NODE, { transport: 'sse', storage });
  connection.subscribe('news');
  const seen = record(connection);
  await settle();
  await turn();
  const { searchParams } = requests[0].url;
  assert.deepEqual(JSON.parse(searchParams.get('positions')), { [CHANNEL]: pos(3), 'topic:news': pos(1) });
  assert.deepEqual([searchParams.getAll('topic'), seen.errors], [['news'], []]);
  await connection.close();
});

test('silence beyond the heartbeat ends it, comments are signs of life', async () => {
  const { connection, seen } = await dialling({ transport: 'sse' });
  await requests[0].stream.hello();
  await pass(30_000);
  await requests[0].stream.write(':\n\n');
  await pass(30_000);
  assert.equal(connection.state, 'connected');
  await pass(10_000);
  assert.match(seen.states.at(-1).reason, /nothing was heard/);
  await connection.close();
});

test('an acknowledgement that does not arrive ends it, and is sent again by the next', async () => {
  const { connection } = await dialling({ transport: 'sse' });
  await requests[0].stream.hello();
  await requests[0].stream.message(1);
  answer = ({ url }) => new Stream(url.pathname.endsWith('acks') ? { status: 500, body: '' } : {});
  await pass(250);
  assert.equal(connection.state, 'connecting');
  await pass(500);
  answer = () => new Stream({ status: 204, body: null });
  await requests.at(-1).stream.hello();
  await pass(250);
  assert.deepEqual(JSON.parse(requests.at(-1).init.body), { positions: { [CHANNEL]: pos(1) } });
  await connection.close();
});

test('an acknowledgement that a node cannot take just now is sent again when it says, and the stream goes on', async () => {
  const { connection } = await dialling({ transport: 'sse' });
  await requests[0].stream.hello();
  const acks = () => requests.filter(({ url }) => url.pathname.endsWith('acks'));
  const told = () => JSON.parse(acks().at(-1).init.body).positions[CHANNEL];
  for (const status of [503, 429]) {
    const [first, second] = status === 503 ? [1, 2] : [3, 4];
    answer = () => new Stream({ status, body: '', headers: { 'retry-after': '3' } });
    await requests[0].stream.message(first);
    await pass(250);
    assert.equal(told(), pos(first));
    const sent = acks().length;
    await requests[0].stream.message(second);
    await pass(2_700);
    assert.deepEqual([connection.state, acks().length], ['connected', sent]);
    answer = () => new Stream({ status: 204, body: null });
    await pass(3_400);
    assert.deepEqual([connection.state, acks().length, told()], ['connected', sent + 1, pos(second)]);
  }
  await connection.close();
});

test('what a node could not take goes out once more when the stream is closed', async () => {
  const { connection } = await dialling({ transport: 'sse' });
  await requests[0].stream.hello();
  answer = () => new Stream({ status: 503, body: '', headers: { 'retry-after': '3' } });
  await requests[0].stream.message(1);
  await pass(250);
  const sent = requests.length;
  await connection.close();
  await pass(0);
  assert.equal(requests.length, sent + 1);
  assert.deepEqual(JSON.parse(requests.at(-1).init.body), { positions: { [CHANNEL]: pos(1) } });
});

test('where a WebSocket cannot be opened a stream is tried, and a WebSocket again until it has failed twice', async () => {
  const { connection, seen } = await dialling();
  const transports = [];
  for (let round = 0; round < 2; round += 1) {
    await server.last.close(1006);
    await retried(seen);
    await requests.at(-1).stream.hello();
    transports.push(connection.session.transport);
    await requests.at(-1).stream.end();
    await retried(seen);
  }
  assert.deepEqual(transports, ['sse', 'sse']);
  assert.equal(server.peers.length, 2, 'after a second time no more sockets are tried first');
  // A stream that fails as well is followed by a socket, and one that works is kept.
  await requests.at(-1).stream.end();
  await retried(seen);
  assert.equal(server.peers.length, 3);
  await server.last.hello();
  assert.equal(connection.session.transport, 'websocket');
  await server.last.close(1006);
  await retried(seen);
  assert.equal(server.peers.length, 4, 'a socket that was open is not blocked');
  await connection.close();
});

test('a runtime without WebSocket listens to streams, and fetch is not needed where sockets are asked for', async () => {
  const { WebSocket } = globalThis;
  try {
    globalThis.WebSocket = undefined;
    const { connection } = await dialling({ WebSocket: undefined });
    assert.equal(requests.length, 1);
    await connection.close();
  } finally {
    globalThis.WebSocket = WebSocket;
  }
  const { connection } = await dialling({ transport: 'websocket' });
  await server.last.close(1006);
  await pass(500);
  assert.deepEqual([server.peers.length, requests.length], [2, 1]);
  await connection.close();
});
