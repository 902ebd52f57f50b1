// Topics: asked for, kept up across connections, given up.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect, memoryStorage } from 'postrider';
import { CHANNEL, FakeServer, pos, record, settle } from './support/fake.mjs';

const NEWS = 'topic:news';
let server;

beforeEach(() => {
  server = new FakeServer();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
});
afterEach(() => mock.timers.reset());

async function begun(topics = [], options = {}) {
  const connection = connect('http://node.test', { WebSocket: server.WebSocket, ...options });
  if (topics.length > 0) connection.subscribe(topics);
  const seen = record(connection);
  await settle();
  return { connection, seen, peer: server.last };
}

async function connected(topics) {
  const all = await begun(topics);
  await all.peer.hello();
  return all;
}

async function reconnected() {
  mock.timers.tick(30_000);
  await settle();
  await server.last.hello();
  return server.last;
}

const subscribed = (peer, seq) => peer.send({ type: 'subscribed', topics: ['news'], resumed: false, positions: { [NEWS]: pos(seq) } });
const numbers = (seen) => seen.messages.map(({ data }) => data);

test('topics asked for before connecting are asked for with the first frame', async () => {
  const { connection, peer } = await connected(['news', 'topic:orders.42', 'news']);
  assert.deepEqual(connection.topics, ['news', 'orders.42']);
  assert.deepEqual(peer.frames, [{ type: 'resume', positions: {}, topics: ['news', 'orders.42'] }]);
});

test('a topic asked for later is kept up, and goes on where it was', async () => {
  const { connection, peer, seen } = await connected();
  connection.subscribe('news');
  connection.subscribe(['news']);
  assert.deepEqual(peer.of('subscribe'), [{ type: 'subscribe', topics: ['news'], positions: {} }]);
  await subscribed(peer, 7);
  assert.equal(connection.positions[NEWS], pos(7));
  await peer.message(8, { channel: NEWS });
  await peer.close(1006);
  const next = await reconnected();
  const [resume] = next.of('resume');
  assert.deepEqual([resume.topics, resume.positions[NEWS]], [['news'], pos(8)]);
  assert.deepEqual(next.of('subscribe'), []);
  assert.deepEqual(numbers(seen), [8]);
});

test('what is asked for while the session is being set up is asked for once it is', async () => {
  const { connection, peer } = await begun(['news', 'old']);
  await peer.accept();
  peer.socket.onopen = null; // It opens once.
  connection.subscribe('late');
  connection.unsubscribe('old');
  assert.deepEqual(peer.of('resume')[0].topics, ['news', 'old']);
  await peer.hello();
  assert.deepEqual(peer.of('subscribe'), [{ type: 'subscribe', topics: ['late'], positions: {} }]);
  assert.deepEqual(peer.of('unsubscribe'), [{ type: 'unsubscribe', topics: ['old'] }]);
});

test('of a topic that was given up nothing is given any more, nor kept', async () => {
  const { connection, peer, seen } = await connected(['news']);
  await peer.message(1, { channel: NEWS });
  connection.unsubscribe(['topic:news', 'never']);
  assert.deepEqual(peer.of('unsubscribe'), [{ type: 'unsubscribe', topics: ['news'] }]);
  await peer.message(2, { channel: NEWS });
  await peer.send({ type: 'gap', channel: NEWS, from: pos(1), to: pos(2), reason: 'trimmed' });
  await peer.message(3);
  assert.deepEqual([numbers(seen), seen.gaps, connection.positions[NEWS]], [[1, 3], [], undefined]);
  connection.subscribe('news');
  await subscribed(peer, 9);
  await peer.message(10, { channel: NEWS });
  assert.deepEqual(numbers(seen), [1, 3, 10]);
  connection.unsubscribe('news');
  await peer.close(1006);
  const next = await reconnected();
  assert.equal(next.of('resume')[0].topics, undefined);
});

test('a topic that is refused is reported and not asked for again', async () => {
  const { connection, peer, seen } = await connected(['news', 'secret']);
  await peer.send({ type: 'error', code: 'topic_not_allowed', message: 'not with this token', topics: ['secret'] });
  assert.deepEqual(connection.topics, ['news']);
  assert.deepEqual(seen.errors.map(({ code, message }) => [code, message]), [['topic_not_allowed', 'secret: not with this token']]);
  assert.deepEqual(peer.of('unsubscribe'), []);
  await peer.close(1006);
  const next = await reconnected();
  assert.deepEqual(next.of('resume')[0].topics, ['news']);
});

test('a topic that could not be had just now is had with the next connection', async () => {
  const { connection, peer, seen } = await connected(['news']);
  await peer.send({ type: 'error', code: 'store_away', message: 'in a moment', topics: ['news'] });
  assert.equal(connection.state, 'connecting');
  const next = await reconnected();
  assert.deepEqual(next.of('resume')[0].topics, ['news']);
  assert.deepEqual([connection.state, seen.errors], ['connected', []]);
});

const many = (count, prefix = 't') => Array.from({ length: count }, (_, at) => `${prefix}${at}`);
const begin = (topics) => Object.fromEntries(topics.map((topic) => [`topic:${topic}`, pos(1)]));
const known = (positions, topics) => topics.filter((topic) => `topic:${topic}` in positions).length;

// Found in review: beyond some two hundred the oldest began now after a reconnect, and nobody was told.
test('every topic that is wanted goes on where it was, however many they are', async () => {
  const topics = many(300);
  const storage = memoryStorage();
  const { connection, peer } = await begun(topics, { storage });
  await peer.hello({ positions: { [CHANNEL]: pos(0), all: pos(0), ...begin(topics) } });
  for (const topic of topics.slice(100)) await peer.message(2, { channel: `topic:${topic}`, id: topic });
  await peer.close(1006);
  const { positions } = (await reconnected()).of('resume')[0];
  assert.equal(known(positions, topics), 300);
  assert.ok(CHANNEL in positions && 'all' in positions);
  await connection.close();

  // After a reload, too, although they are asked for only later.
  const later = await begun([], { storage });
  await later.peer.hello({ user: 'bob', positions: { 'user:bob': pos(0) } });
  later.connection.subscribe(topics);
  assert.equal(known(later.peer.of('subscribe')[0].positions, topics), 300);
});

test('of topics that are not wanted only so many are remembered, and none is told of in a resume', async () => {
  const storage = memoryStorage();
  await storage.save({ [CHANNEL]: pos(0), ...begin(many(250, 'old')) });
  const { connection, peer } = await begun(['news'], { storage });
  await peer.hello({ positions: { 'topic:news': pos(0), all: pos(0) } });
  assert.deepEqual(Object.keys(peer.of('resume')[0].positions), [CHANNEL]);
  assert.equal(Object.keys(connection.positions).length, 251, 'no more than there were');
  assert.ok([CHANNEL, NEWS, 'all'].every((channel) => channel in connection.positions));
});

test('more than a node takes in a frame ends the connection with what to do about it', async () => {
  const { connection, seen, peer } = await begun(many(2_000));
  await peer.accept();
  await peer.close(1009, 'the message is above the limit');
  assert.equal(connection.state, 'disconnected');
  assert.equal(seen.states.at(-1).reason, 'the message is above the limit: subscribe to fewer topics, or raise frame_bytes_max');
});
