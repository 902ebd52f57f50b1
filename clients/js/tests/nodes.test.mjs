// Against real nodes, which are killed, drained and started again.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, afterEach, before, test } from 'node:test';
import { connect, memoryStorage } from 'postrider';
import WebSocket from 'ws';
import { record } from './support/fake.mjs';
import { Cluster, until } from './support/cluster.mjs';

let cluster;
before(async () => {
  cluster = await Cluster.start(3, ['--drain-delay-ms', '0', '--drain-window-ms', '500', '--mailbox-messages-max', '300']);
});
after(() => cluster?.stop());

// Also after a failure: a device that nobody closes keeps trying, and this process up, for ever.
const devices = [];
afterEach(() => Promise.all(devices.splice(0).map((connection) => connection.close())));

const quick = { WebSocket, backoffMs: 50, backoffMsMax: 500, connectTimeoutMs: 5_000, ackIntervalMs: 20 };

/** A device whose token is its user's name, as it is without authentication. */
function device(user, options = {}, urls = cluster.urls) {
  const connection = connect(urls, { ...quick, getToken: () => user, ...options });
  devices.push(connection);
  return { connection, seen: record(connection) };
}

const numbers = (seen) => seen.messages.map(({ data }) => data.n);
const upTo = (count) => Array.from({ length: count }, (_, n) => ({ n })).map(({ n }) => n);
const connected = ({ connection }) => until('the device is connected', () => connection.state === 'connected');
const has = ({ seen }, count) =>
  until(`${count} messages, ${seen.messages.length} came`, () => seen.messages.length >= count, 25_000);

test('messages come in order, each once, whatever is killed under way', { timeout: 60_000 }, async () => {
  const COUNT = 240;
  // One device begins on each node, and each is to see everything.
  const three = [0, 1, 2].map((at) => {
    const urls = [...cluster.urls.slice(at), ...cluster.urls.slice(0, at)];
    return device('victim', { device: `device${at}` }, urls);
  });
  await Promise.all(three.map(connected));
  let sent = 0;
  const sending = (async () => {
    for (; sent < COUNT; sent += 1) await cluster.push('user:victim', { n: sent });
  })();
  // Each node dies once in the middle of it, and comes back.
  for (const [at, node] of cluster.nodes.entries()) {
    await until('more is sent', () => sent >= ((at + 1) * COUNT) / 4);
    await node.kill();
    await until('more is sent', () => sent >= ((at + 1) * COUNT) / 4 + 15);
    await node.start();
  }
  await sending;
  await Promise.all(three.map((one) => has(one, COUNT)));
  for (const { connection, seen } of three) {
    assert.deepEqual(numbers(seen), upTo(COUNT));
    assert.deepEqual(seen.gaps, []);
    assert.deepEqual(seen.errors, []);
    assert.ok(seen.states.filter(({ state }) => state === 'connected').length >= 2, 'it was on a node that died');
    await connection.close();
  }
});

test('a page that is loaded again goes on where it was', { timeout: 30_000 }, async () => {
  const storage = memoryStorage();
  let given = [];
  // Neither names a device: nobody but the storage knows how far it was.
  for (let reload = 0; reload < 5; reload += 1) {
    const { connection, seen } = device('reader', { storage, from: 'now' });
    await connected({ connection });
    for (let n = 0; n < 10; n += 1) await cluster.push('user:reader', { n: reload * 20 + n });
    await has({ seen }, 1);
    await connection.close();
    given = given.concat(numbers(seen));
    for (let n = 10; n < 20; n += 1) await cluster.push('user:reader', { n: reload * 20 + n });
  }
  const { connection, seen } = device('reader', { storage, from: 'now' });
  await until('the rest', () => given.length + seen.messages.length >= 100);
  await connection.close();
  assert.deepEqual(given.concat(numbers(seen)), upTo(100));
});

test('what was acknowledged by hand does not come again, and the rest does', { timeout: 30_000 }, async () => {
  for (let n = 0; n < 10; n += 1) await cluster.push('user:clerk', { n });
  const first = device('clerk', { device: 'desk', ack: 'manual' });
  await has(first, 10);
  first.seen.messages[5].ack();
  await first.connection.close();
  await cluster.acknowledged('user:clerk', 'desk', first.seen.messages[5].pos);
  const second = device('clerk', { device: 'desk' });
  await has(second, 4);
  await second.connection.close();
  assert.deepEqual(numbers(second.seen), [6, 7, 8, 9]);
});

test('a drained node is left without a loss, and exits cleanly', { timeout: 30_000 }, async () => {
  const [leaving, ...others] = cluster.nodes;
  const one = device('commuter', { device: 'phone' });
  await connected(one);
  let n = 0;
  let stop = false;
  const sending = (async () => {
    while (!stop) await cluster.push('user:commuter', { n: n++ });
  })();
  await has(one, 5);
  assert.equal(await leaving.drain(), 0);
  stop = true;
  await sending;
  await has(one, n);
  assert.deepEqual(numbers(one.seen), upTo(n));
  assert.deepEqual(one.seen.gaps, []);
  const moved = one.seen.states.find(({ code }) => code !== undefined);
  assert.equal(moved.code, 1012);
  assert.ok(others.length === 2 && one.connection.state === 'connected');
  await one.connection.close();
  await leaving.start();
});

test('a device that was away for longer than the mailbox holds is told', { timeout: 30_000 }, async () => {
  const storage = memoryStorage();
  const first = device('hermit', { storage });
  await connected(first);
  await cluster.push('user:hermit', { n: 0 });
  await has(first, 1);
  await first.connection.close();
  const pushes = Array.from({ length: 8 }, async (_, worker) => {
    for (let n = 0; n < 50; n += 1) await cluster.push('user:hermit', { n: 1 + worker * 50 + n });
  });
  await Promise.all(pushes);
  await cluster.push('user:hermit', { n: 'last' });
  const second = device('hermit', { storage });
  await until('the last message', () => numbers(second.seen).at(-1) === 'last');
  const { messages, gaps } = second.seen;
  assert.equal(gaps.length, 1);
  assert.deepEqual([gaps[0].reason, gaps[0].from], ['trimmed', first.seen.messages[0].pos]);
  // What was lost and what came are together all that was sent.
  const number = (pos) => Number(pos.split('.')[1]);
  const lost = number(gaps[0].to) - number(gaps[0].from);
  assert.ok(lost > 0 && messages.length >= 300);
  assert.equal(lost + messages.length, 401);
});

test('a position that nobody could have given is survived', { timeout: 30_000 }, async () => {
  await cluster.push('user:vandal', { n: 0 });
  const storage = memoryStorage();
  storage.save({ 'user:vandal': 'scribble' });
  const one = device('vandal', { storage });
  await has(one, 1);
  assert.deepEqual(one.seen.errors.map(({ code }) => code), ['bad_frame']);
  // Where `all` begins may have been told as well.
  assert.equal(storage.load()['user:vandal'], one.seen.messages[0].pos);
  await one.connection.close();
});

test('an operator’s disconnect is final', { timeout: 30_000 }, async () => {
  const one = device('guest');
  await connected(one);
  const response = await fetch(`${cluster.urls[1]}/v1/channels/user:guest/sessions`, { method: 'DELETE' });
  assert.equal(response.status, 202);
  await until('it is over', () => one.connection.state === 'disconnected');
  assert.equal(one.seen.states.at(-1).code, 4000);
});

test('tokens are signed, expire, and are asked for again', { timeout: 30_000 }, async () => {
  const secret = 'a secret of at least thirty-two bytes';
  const key = 'a-key-for-senders';
  const guarded = await Cluster.start(1, ['--auth', 'jwt', '--jwt-secret', secret, '--api-key', key]);
  try {
    const encode = (value) => Buffer.from(value).toString('base64url');
    const sign = (claims) => {
      const text = `${encode('{"alg":"HS256","typ":"JWT"}')}.${encode(JSON.stringify(claims))}`;
      return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
    };
    const now = Math.floor(Date.now() / 1_000);
    const asked = [];
    const getToken = ({ refused }) => {
      asked.push(refused);
      return sign({ sub: 'alice', exp: refused ? now + 600 : now - 600 });
    };
    const one = device('alice', { getToken }, guarded.urls);
    await connected(one);
    assert.deepEqual(asked, [false, true]);
    assert.equal(one.seen.states[1].code, 4403);
    assert.match(one.seen.states[1].reason, /expired/);
    await guarded.push('user:alice', { n: 0 }, { headers: { authorization: `Bearer ${key}` } });
    await has(one, 1);
    await one.connection.close();

    const other = device('mallory', { getToken: () => 'forged' }, guarded.urls);
    await until('it is over', () => other.seen.states.at(-1)?.state === 'disconnected');
    assert.equal(other.seen.states.at(-1).code, 4403);
  } finally {
    await guarded.stop();
  }
});

test('topics and everyone go on across a node that is killed', { timeout: 60_000 }, async () => {
  const reader = device('subscriber', { device: 'phone' });
  reader.connection.subscribe('orders.42');
  await connected(reader);
  reader.connection.subscribe('late');
  const channels = ['topic:orders.42', 'topic:late', 'all', 'user:subscriber'];
  await until('every channel has a position', () => channels.slice(0, 3).every((channel) => reader.connection.positions[channel]));
  const round = async (n) => {
    for (const channel of channels) await cluster.push(channel, { n, of: channel });
  };
  for (let n = 0; n < 5; n += 1) await round(n);
  await has(reader, 20);
  const { node } = reader.connection.session;
  const nodes = await Promise.all(cluster.urls.map(async (url) => (await fetch(`${url}/v1/stats`)).json()));
  const at = nodes.findIndex((stats) => stats.node === node);
  await cluster.nodes[at].kill();
  for (let n = 5; n < 10; n += 1) await round(n);
  await has(reader, 40);
  await cluster.nodes[at].start();
  for (const channel of channels) {
    const of = reader.seen.messages.filter((message) => message.channel === channel);
    assert.deepEqual(of.map(({ data }) => data.n), upTo(10), channel);
  }
  assert.deepEqual([reader.seen.gaps, reader.seen.errors], [[], []]);
  reader.connection.unsubscribe('late');
  await until('nobody listens to it', async () => {
    const { sessions } = await (await fetch(`${cluster.urls[0]}/v1/channels/topic:late`)).json();
    return sessions === 0;
  });
});
