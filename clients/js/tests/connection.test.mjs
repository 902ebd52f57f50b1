// When a connection is tried, with which token, and when it is given up.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect, UnauthorizedError } from 'postrider';
import { FakeServer, record, settle } from './support/fake.mjs';

const NODE = 'http://node.test';
let server;
/** What Math.random answers. */
let chance;

beforeEach(() => {
  server = new FakeServer();
  chance = 0.5;
  mock.method(Math, 'random', () => chance);
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

async function dialling(options = {}, url = NODE) {
  const connection = connect(url, { WebSocket: server.WebSocket, transport: 'websocket', ...options });
  const seen = record(connection);
  await settle();
  return { connection, seen };
}

async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

const last = (seen) => seen.states.at(-1);

/** Fails the present try, and returns how long the next is waited for. */
async function failed(seen, code = 1006) {
  await server.last.close(code);
  assert.equal(last(seen).state, 'connecting');
  return last(seen).retryInMs;
}

test('states come in order, each with its reason', async () => {
  const { connection, seen } = await dialling({ device: 'phone' });
  assert.equal(connection.state, 'connecting');
  await server.last.hello();
  assert.deepEqual(connection.session, { session: 's1', node: 'n1', user: 'alice', device: 'phone', transport: 'websocket', resumed: false });
  await server.last.close(1011, 'our fault');
  assert.equal(connection.session, undefined);
  await connection.close();
  assert.deepEqual(
    seen.states.map(({ previous, state, code, reason }) => [previous, state, code, reason]),
    [
      ['disconnected', 'connecting', undefined, 'connecting'],
      ['connecting', 'connected', undefined, 'connected to node n1'],
      ['connected', 'connecting', 1011, 'our fault'],
      ['connecting', 'disconnected', 1000, 'closed by the application'],
    ],
  );
});

test('nothing is dialled before somebody listens for messages', async () => {
  const connection = connect(NODE, { WebSocket: server.WebSocket });
  connection.on('state', () => {});
  await settle();
  assert.equal(server.peers.length, 0);
  connection.on('message', () => {});
  connection.on('message', () => {});
  await settle();
  assert.equal(server.peers.length, 1);
});

test('a connection that is closed before it was begun is not begun', async () => {
  const connection = connect(NODE, { WebSocket: server.WebSocket });
  connection.on('message', () => {});
  await connection.close();
  await settle();
  assert.equal(server.peers.length, 0);
});

test('addresses may be written in the ways people write them', async () => {
  for (const [url, expected] of [
    ['http://node.test', 'ws://node.test/v1/ws?resume=1&device=phone&from=oldest'],
    ['https://node.test/', 'wss://node.test/v1/ws?resume=1&device=phone&from=oldest'],
    [new URL('wss://node.test/behind/a/proxy?tenant=7#x'), 'wss://node.test/behind/a/proxy?tenant=7&resume=1&device=phone&from=oldest'],
  ]) {
    const { connection } = await dialling({ device: 'phone', from: 'oldest' }, url);
    assert.equal(server.last.url.href, expected);
    assert.deepEqual(server.last.protocols, ['postrider.v1+json']);
    await connection.close();
  }
  assert.throws(() => connect('ftp://node.test', { WebSocket: server.WebSocket }), /use one like https/);
  assert.throws(() => connect([], { WebSocket: server.WebSocket }), TypeError);
});

test('a runtime without WebSocket is told what to do', () => {
  const own = globalThis.WebSocket;
  try {
    globalThis.WebSocket = undefined;
    assert.throws(() => connect(NODE, { transport: 'websocket' }), /install the package ws/);
  } finally {
    globalThis.WebSocket = own;
  }
});

test('waiting is capped before it is randomised', async () => {
  const { seen } = await dialling({ backoffMs: 1_000, backoffMsMax: 5_000 });
  const waits = [];
  for (chance of [1, 1, 1, 1, 0.5, 0.25, 0]) {
    const wait = await failed(seen);
    waits.push(wait);
    await pass(wait);
  }
  assert.deepEqual(waits, [1_000, 2_000, 4_000, 5_000, 2_500, 1_250, 0]);
  assert.equal(server.peers.length, 8);
});

test('earlier failures count until a connection was up for five seconds', async () => {
  const { seen } = await dialling();
  chance = 1;
  for (const expected of [1_000, 2_000]) {
    assert.equal(await failed(seen), expected);
    await pass(expected);
  }
  await server.last.hello();
  await pass(4_999);
  assert.equal(await failed(seen), 4_000);
  await pass(4_000);
  await server.last.hello();
  await pass(5_000);
  assert.equal(await failed(seen), 1_000);
});

test('of several addresses the next one is tried after each failure', async () => {
  const { seen } = await dialling({}, ['http://a.test', 'http://b.test']);
  for (let i = 0; i < 2; i += 1) await pass(await failed(seen));
  assert.deepEqual(server.peers.map(({ url }) => url.host), ['a.test', 'b.test', 'a.test']);
});

test('a connection that breaks without a close has one code in every runtime', async () => {
  for (const code of [0, 1006, undefined]) {
    const { connection, seen } = await dialling();
    await server.last.close(code);
    assert.deepEqual([last(seen).code, last(seen).reason], [1006, 'the connection broke']);
    await connection.close();
  }
});

test('40xx ends it', async () => {
  const { connection, seen } = await dialling();
  await server.last.hello();
  await server.last.close(4000, 'an operator closed the session');
  assert.deepEqual([last(seen).state, last(seen).code, last(seen).reason], ['disconnected', 4000, 'an operator closed the session']);
  await pass(600_000);
  assert.equal(server.peers.length, 1);
  connection.connect();
  await settle();
  assert.equal(server.peers.length, 2, 'unless the application says so');
});

test('41xx waits, 42xx does not, unless it goes round in circles', async () => {
  const { seen } = await dialling();
  await server.last.hello();
  await pass(5_000);
  assert.equal(await failed(seen, 4200), 0);
  await pass(0);
  await server.last.hello();
  assert.equal(await failed(seen, 4200), 500, 'sent away again within five seconds');
  await pass(500);
  await server.last.hello();
  await pass(5_000);
  assert.equal(await failed(seen, 4101), 500);
});

test('the token is the first frame, and kept while it is good', async () => {
  const asked = [];
  const getToken = async (context) => `token${asked.push(context)}`;
  const { seen } = await dialling({ getToken });
  await server.last.hello();
  assert.deepEqual(server.last.frames[0], { type: 'auth', token: 'token1' });
  assert.equal(server.last.url.searchParams.get('token'), null);
  await pass(await failed(seen));
  await server.last.accept();
  assert.deepEqual(server.last.frames[0], { type: 'auth', token: 'token1' });
  assert.deepEqual(asked, [{ refused: false }]);
});

test('a refused token is replaced at once, and a replacement that is refused is the end', async () => {
  const asked = [];
  const getToken = ({ refused }) => `token${asked.push(refused)}`;
  const { seen } = await dialling({ getToken });
  await server.last.hello();
  assert.equal(await failed(seen, 4403), 0);
  await pass(0);
  await server.last.accept();
  assert.deepEqual(server.last.frames[0], { type: 'auth', token: 'token2' });
  await server.last.close(4403, 'the token has expired');
  assert.deepEqual([last(seen).state, last(seen).code, last(seen).reason], ['disconnected', 4403, 'the token has expired']);
  assert.deepEqual(asked, [false, true]);
});

test('a replacement that grew old while the network was away is replaced in turn', async () => {
  const asked = [];
  const { seen } = await dialling({ getToken: ({ refused }) => `token${asked.push(refused)}` });
  await failed(seen, 4403);
  await pass(0);
  await pass(await failed(seen, 1006));
  await pass(await failed(seen, 4403));
  await server.last.hello();
  assert.equal(last(seen).state, 'connected');
  assert.deepEqual(asked, [false, true, true]);
});

test('a token that was accepted and is refused later is replaced, but not in a tight circle', async () => {
  const asked = [];
  const { connection, seen } = await dialling({ getToken: ({ refused }) => `token${asked.push(refused)}` });
  await failed(seen, 4403);
  await pass(0);
  await server.last.hello();
  assert.equal(await failed(seen, 4403), 500, 'again within five seconds');
  await pass(500);
  await server.last.hello();
  await pass(5_000);
  assert.equal(await failed(seen, 4403), 0);
  assert.deepEqual(asked, [false, true, true]);
  await connection.close();
});

test('who starts again is asked for a token again', async () => {
  const asked = [];
  const { connection } = await dialling({ getToken: ({ refused }) => `token${asked.push(refused)}` });
  await server.last.hello();
  await connection.close();
  connection.connect();
  await settle();
  assert.deepEqual(asked, [false, false]);
});

test('without getToken a refusal is the end', async () => {
  const { seen } = await dialling();
  await server.last.close(4403, 'no token');
  assert.equal(last(seen).state, 'disconnected');
});

test('UnauthorizedError is the end, whichever copy of the package threw it', async () => {
  class UnauthorizedOfAnotherCopy extends Error {
    name = 'UnauthorizedError';
  }
  for (const error of [new UnauthorizedError('logged out'), new UnauthorizedOfAnotherCopy('logged out')]) {
    const { seen } = await dialling({ getToken: () => Promise.reject(error) });
    assert.deepEqual([last(seen).state, last(seen).code, last(seen).reason], ['disconnected', 4403, 'logged out']);
  }
  await pass(600_000);
  assert.equal(server.peers.length, 0);
});

test('getToken may fail or hang for a while', async () => {
  const answers = [
    () => {
      throw new Error('offline');
    },
    () => new Promise(() => {}),
    () => 'good',
  ];
  const { seen } = await dialling({ getToken: () => answers.shift()() });
  assert.deepEqual([seen.errors[0].code, seen.errors[0].message], ['token', 'getToken failed: offline']);
  assert.equal(last(seen).retryInMs, 500);
  await pass(500);
  await pass(10_000);
  assert.equal(seen.errors[1].message, 'getToken failed: no answer within 10000 ms');
  await pass(1_000);
  await server.last.hello();
  assert.deepEqual(server.last.frames[0], { type: 'auth', token: 'good' });
});

test('a token that comes after the connection was closed is not used', async () => {
  let answer;
  const { connection } = await dialling({ getToken: () => new Promise((resolve) => (answer = resolve)) });
  await connection.close();
  answer('late');
  await settle();
  assert.equal(server.peers.length, 0);
});

test('a try that leads to no session is given up', async () => {
  const { seen } = await dialling({ connectTimeoutMs: 3_000 });
  await server.last.accept();
  await pass(3_000);
  assert.deepEqual([last(seen).state, last(seen).code, last(seen).reason], ['connecting', 1006, 'no session within 3000 ms']);
  assert.ok(server.last.closedWith);
});

test('silence beyond the heartbeat and its grace is the end of a connection', async () => {
  const { seen } = await dialling();
  await server.last.hello({ heartbeat_ms: 25_000 });
  await pass(34_999);
  await server.last.send({ type: 'ping' });
  await pass(34_999);
  assert.equal(last(seen).state, 'connected');
  await pass(1);
  assert.deepEqual([last(seen).state, last(seen).code], ['connecting', 1006]);
  assert.ok(server.last.closedWith);
});

test('a late word of a connection that was given up is not heard', async () => {
  const { seen } = await dialling();
  await server.last.hello();
  const [old] = server.peers;
  await pass(35_000);
  await old.message(1);
  await old.close(4000);
  assert.equal(seen.messages.length, 0);
  assert.equal(last(seen).state, 'connecting');
});

test('a draining node is left at the moment that it names, acknowledgements first', async () => {
  const { seen } = await dialling({ device: 'phone' });
  await server.last.hello();
  await pass(5_000);
  const [old] = server.peers;
  await old.send({ type: 'drain', reconnect_after_ms: 2_000 });
  await pass(1_999);
  await old.message(1);
  assert.equal(last(seen).state, 'connected');
  await pass(1);
  assert.deepEqual(old.of('ack').length, 1);
  assert.equal(old.closedWith.code, 1000);
  assert.deepEqual([last(seen).code, last(seen).retryInMs], [1012, 0]);
  await pass(0);
  assert.equal(server.peers.length, 2);
});

test('a node that closes before the moment it named is not left earlier for that', async () => {
  const { seen } = await dialling();
  await server.last.hello();
  await pass(5_000);
  await server.last.send({ type: 'drain', reconnect_after_ms: 2_000 });
  await pass(500);
  assert.equal(await failed(seen, 1012), 1_500);
});

test('closing leaves nothing behind that would wake', async () => {
  const { connection } = await dialling({ device: 'phone' });
  await server.last.hello();
  await server.last.message(1);
  await server.last.send({ type: 'drain', reconnect_after_ms: 2_000 });
  await connection.close();
  assert.deepEqual(server.last.of('ack').length, 1);
  await pass(600_000);
  assert.equal(server.peers.length, 1);
  await connection.close();
});

test('connect() does not wait for the next try', async () => {
  const { connection, seen } = await dialling();
  await failed(seen);
  connection.connect();
  connection.connect();
  await settle();
  assert.equal(server.peers.length, 2);
  await server.last.hello();
  connection.connect();
  await pass(30_000);
  assert.equal(server.peers.length, 2);
});

test('a listener may close the connection whatever it is told', async () => {
  for (const event of ['connecting', 'connected', 'error']) {
    server.peers.length = 0;
    const getToken = () => {
      if (event === 'error') throw new Error('no');
      return 'token';
    };
    const connection = connect(NODE, { WebSocket: server.WebSocket, getToken });
    connection.on('error', () => void connection.close());
    connection.on('state', ({ state }) => state === event && void connection.close());
    connection.on('message', () => {});
    await settle();
    await server.last?.hello();
    await pass(600_000);
    assert.equal(connection.state, 'disconnected', event);
    assert.ok(server.peers.length <= (event === 'connected' ? 1 : 0), event);
  }
});

test('an address that may not be opened at all is not tried for ever', async () => {
  class Forbidden {
    constructor() {
      throw new Error('mixed content');
    }
  }
  const { seen } = await dialling({ WebSocket: Forbidden });
  assert.deepEqual([last(seen).state, last(seen).reason], ['disconnected', 'mixed content']);
});

test('a token that ends soon is replaced without a new connection', async () => {
  const asked = [];
  const tokens = ['first', 'second'];
  const getToken = (context) => {
    asked.push(context);
    return tokens[asked.length - 1];
  };
  const { connection, seen } = await dialling({ getToken });
  await server.last.hello();
  await server.last.send({ type: 'reauth', within_ms: 30_000 });
  assert.deepEqual(asked, [{ refused: false }, { refused: false }]);
  assert.deepEqual(server.last.of('auth').map(({ token }) => token), ['first', 'second']);
  // The next connection begins with the newer one.
  await server.last.close(1012);
  await pass(last(seen).retryInMs);
  await server.last.accept();
  assert.deepEqual(server.last.of('auth').map(({ token }) => token), ['second']);
  assert.equal(asked.length, 2);
  await connection.close();
});

test('a fresh token that cannot be got is told, and the session lasts while its token does', async () => {
  let asked = 0;
  const getToken = () => {
    asked += 1;
    if (asked === 2) throw new Error('no network');
    return `token ${asked}`;
  };
  const { connection, seen } = await dialling({ getToken });
  await server.last.hello();
  await server.last.send({ type: 'reauth', within_ms: 30_000 });
  assert.deepEqual([seen.errors.at(-1).code, connection.state], ['token', 'connected']);
  await server.last.close(4401);
  await pass(0);
  await server.last.accept();
  assert.deepEqual(server.last.of('auth').map(({ token }) => token), ['token 3'], 'asked for again');
  await connection.close();
});

test('without getToken, the question for a fresh token is left to the close that follows', async () => {
  const { connection } = await dialling();
  await server.last.hello();
  await server.last.send({ type: 'reauth', within_ms: 30_000 });
  assert.deepEqual(server.last.of('auth'), []);
  await server.last.close(4401);
  assert.equal(connection.state, 'disconnected');
});
