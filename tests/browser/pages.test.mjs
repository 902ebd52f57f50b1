// The pages as a new user meets them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import WebSocket from 'ws';
import { inspect, NARROW, openPage, picture, startBalancer, startBrowser, startNode, startRedis, until, WIDE } from './support.mjs';

const KEY = 'a-key-for-the-tests-of-the-pages';
const SECRET = 'a secret of more than thirty-two bytes, for tests';
const VIEWS = [[WIDE, 'light'], [NARROW, 'dark'], [WIDE, 'dark'], [NARROW, 'light']];
const name = (viewport, colorScheme) => `${viewport === WIDE ? 'wide' : 'narrow'}-${colorScheme}`;

let browser, memory, redis, nodes, balancer, locked;

before(async () => {
  [browser, memory, redis] = await Promise.all([startBrowser(), startNode(), startRedis()]);
  const quick = ['--redis', redis.url, '--heartbeat-ttl-ms', '1500', '--heartbeat-interval-ms', '300', '--heartbeat-grace-ms', '500'];
  nodes = await Promise.all([startNode(quick), startNode(quick), startNode(quick)]);
  balancer = await startBalancer(nodes);
  locked = await startNode(['--auth', 'jwt'], { POSTRIDER_JWT_SECRET: SECRET, POSTRIDER_API_KEY: KEY });
});

after(async () => {
  await browser?.close();
  balancer?.stop();
  for (const one of [memory, redis, locked, ...(nodes ?? [])]) one?.kill();
});

const push = (url, body, headers = {}) => fetch(`${url}/v1/push`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 600 })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

test('a newcomer sees a message arrive, by the button and by the command', async () => {
  for (const [viewport, colorScheme] of VIEWS) {
    const page = await openPage(browser, { viewport, colorScheme });
    await page.goto(memory.url);
    await page.getByText('connected as alice').waitFor();
    await picture(page, `home-empty-${name(viewport, colorScheme)}`);
    await page.getByRole('button', { name: 'Push from here' }).click();
    await page.getByRole('list', { name: 'Messages received' }).getByText('{"text":"hello 1"}').first().waitFor();
    // The command as it stands on the page, run by a shell.
    const command = await page.locator('#curl').textContent();
    assert.match(command, /^curl http:\/\/127\.0\.0\.1:\d+\/v1\/push/);
    const answer = JSON.parse(execFileSync('bash', ['-c', command], { stdio: ['ignore', 'pipe', 'ignore'] }));
    assert.equal(answer.channel, 'user:alice');
    await page.getByRole('list', { name: 'Messages received' }).getByText('{"text":"hello"}', { exact: true }).first().waitFor();
    await page.getByText('keeps everything in its own memory').waitFor();
    await inspect(page, `home ${name(viewport, colorScheme)}`);
    await picture(page, `home-${name(viewport, colorScheme)}`);
    await page.context().close();
  }
});

// Found in review: a link with somebody's own command in it had the page offer that command to be run.
test('whatever the address says is only a name to the command that the page offers', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'postrider-command-'));
  const page = await openPage(browser);
  for (const user of ["x'$(touch ran)'", 'x"`touch ran`"; touch ran', "'\\''"]) {
    await page.goto(`${memory.url}/?user=${encodeURIComponent(user)}`);
    const command = await page.locator('#curl').textContent();
    // In place of curl, what shows the words that it would be given.
    const show = `curl() { printf '%s\\0' "$@"; }\n${command}`;
    const words = execFileSync('bash', ['-c', show], { cwd: folder, encoding: 'utf8' }).split('\0').slice(0, -1);
    assert.equal(JSON.parse(words.at(-1)).to, `user:${user}`);
    assert.deepEqual(words.slice(0, -1), [`${memory.url}/v1/push`, '-H', 'content-type: application/json', '-d']);
    assert.deepEqual(readdirSync(folder), []);
  }
  rmSync(folder, { recursive: true, force: true });
  await page.context().close();
});

test('a node is killed while messages are counted, and nothing is lost', async () => {
  const page = await openPage(browser);
  await page.goto(balancer.url);
  await page.getByText('connected as alice').waitFor();
  await page.getByRole('button', { name: 'Start' }).click();
  const figure = async (term) => Number((await page.locator('#tally div', { hasText: term }).locator('dd').textContent()).replaceAll(',', ''));
  await until('thirty have arrived', async () => (await figure('Received')) >= 30);
  nodes[0].kill();
  await until('more are accepted by the next node', async () => (await figure('Accepted')) >= 80);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Done: nothing was lost').waitFor();
  assert.equal(await figure('Received'), await figure('Accepted'));
  assert.deepEqual([await figure('Twice'), await figure('Out of order'), await figure('On the way')], [0, 0, 0]);
  await inspect(page, 'the count');
  await picture(page, 'home-count');
  await page.context().close();
});

test('the API is readable: every operation, its example in three languages', async () => {
  for (const [viewport, colorScheme] of [VIEWS[0], VIEWS[1]]) {
    const page = await openPage(browser, { viewport, colorScheme });
    await page.goto(`${memory.url}/docs`);
    await page.getByRole('heading', { name: 'Push a message' }).waitFor();
    const described = Object.values((await (await fetch(`${memory.url}/openapi.json`)).json()).paths).flatMap(Object.values);
    assert.equal(await page.locator('article.operation').count(), described.length);
    const first = page.locator('#push');
    for (const [language, holds] of [['curl', 'curl -sS'], ['JavaScript', 'await fetch'], ['Python', 'urllib.request']]) {
      await first.getByRole('tab', { name: language, exact: true }).click();
      assert.match(await first.getByRole('tabpanel').textContent(), new RegExp(holds));
    }
    await inspect(page, `docs ${name(viewport, colorScheme)}`);
    await picture(page, `docs-${name(viewport, colorScheme)}`, false);
    await page.context().close();
  }
});

test('the console shows nodes, sends, follows a user and closes sessions', async () => {
  const { url } = nodes[1];
  for (const [viewport, colorScheme] of VIEWS) {
    const page = await openPage(browser, { viewport, colorScheme });
    await page.goto(`${url}/console`);
    await page.getByText('2 nodes are live').waitFor();
    assert.equal(await page.locator('article.node').count(), 2);
    assert(await page.locator('#memory').isHidden());
    await inspect(page, `overview ${name(viewport, colorScheme)}`);
    await picture(page, `overview-${name(viewport, colorScheme)}`);

    await page.getByRole('link', { name: 'Send' }).click();
    await page.getByText(/^live on/).waitFor();
    await page.getByLabel('Data').fill('not JSON');
    await page.getByRole('button', { name: 'Push' }).click();
    await page.getByText('The data is not JSON').waitFor();
    await page.getByLabel('Data').fill(`{"from": "${name(viewport, colorScheme)}"}`);
    await page.getByLabel('TTL, in seconds').fill('600');
    await page.getByLabel('Collapse key').fill('k');
    await page.getByRole('button', { name: 'Push' }).click();
    await page.getByText(/^Accepted as/).waitFor();
    await page.getByRole('list', { name: 'Messages received' }).getByText(`{"from":"${name(viewport, colorScheme)}"}`).waitFor();
    await inspect(page, `send ${name(viewport, colorScheme)}`);
    await picture(page, `send-${name(viewport, colorScheme)}`);

    const phone = new WebSocketDevice(url, 'bob', 'phone');
    await phone.open;
    await push(url, { to: 'user:bob', data: { order: 42 } });
    await page.getByRole('link', { name: 'User', exact: true }).click();
    await page.getByText('Follow a user').waitFor();
    await inspect(page, `user, none chosen ${name(viewport, colorScheme)}`);
    await page.getByLabel('User or channel').fill('bob');
    await page.keyboard.press('Enter');
    await page.getByText('online, 1 session').waitFor();
    await page.getByRole('region', { name: 'Latest messages' }).getByText('{"order":42}').first().waitFor();
    await page.getByRole('region', { name: 'Devices' }).getByText('phone').waitFor();
    await page.getByRole('region', { name: 'Latest messages' }).getByText('received').first().waitFor();
    await inspect(page, `user ${name(viewport, colorScheme)}`);
    await picture(page, `user-${name(viewport, colorScheme)}`);

    const all = viewport === NARROW;
    await page.getByRole('button', { name: all ? 'Close all' : 'Close session of phone' }).click();
    await page.getByRole('button', { name: 'Cancel' }).click();
    assert.equal(phone.closed, undefined);
    await page.getByRole('button', { name: all ? 'Close all' : 'Close session of phone' }).click();
    await inspect(page, `asking ${name(viewport, colorScheme)}`);
    await page.getByRole('dialog').getByRole('button', { name: all ? 'Close all' : 'Close it' }).click();
    await page.getByText('Nobody is connected.').waitFor();
    assert.equal(await phone.ended, 4000);
    await picture(page, `user-offline-${name(viewport, colorScheme)}`);
    await page.context().close();
  }
});

test('the memory store says that nothing survives, and a node that ends is told of', async () => {
  const node = await startNode();
  const page = await openPage(browser);
  try {
    await page.goto(`${node.url}/console`);
    await page.getByText('nothing survives a restart').waitFor();
    await page.getByText('1 node is live').waitFor();
    node.kill();
    await page.getByText('The node does not answer').waitFor();
    await inspect(page, 'a node that is gone');
    await picture(page, 'console-gone');
  } finally {
    node.kill();
    await page.context().close();
  }
});

test('where keys are asked for, the console asks for one, kindly, and keeps it in the tab', async () => {
  const page = await openPage(browser, { viewport: NARROW, colorScheme: 'dark' });
  await page.goto(`${locked.url}/console`);
  await page.getByLabel('API key').fill('wrong');
  await page.keyboard.press('Enter');
  await page.getByText('This key is not one of this node’s').waitFor();
  await inspect(page, 'sign in');
  await picture(page, 'sign-in');
  await page.getByLabel('API key').fill(KEY);
  await page.getByRole('button', { name: 'Open the console' }).click();
  await page.getByText('1 node is live').waitFor();
  await page.reload();
  await page.getByText('1 node is live').waitFor();
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await page.getByRole('link', { name: 'Send' }).click();
  await page.getByLabel('User’s token').fill(token('alice'));
  await page.getByRole('button', { name: 'Watch' }).click();
  await page.getByText(/^live on/).waitFor();
  await page.getByRole('button', { name: 'Push' }).click();
  await page.getByRole('list', { name: 'Messages received' }).getByText('{"text":"hello"}').waitFor();
  await page.getByRole('button', { name: 'Forget key' }).click();
  await page.getByLabel('API key').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await inspect(page, 'signed out');
  await page.context().close();
});

test('the front page asks for a token where one is needed', async () => {
  const page = await openPage(browser);
  const asked = [];
  page.on('websocket', (socket) => asked.push(socket.url()));
  await page.goto(locked.url);
  await page.getByText('This node asks who you are').waitFor();
  await inspect(page, 'home, locked');
  await picture(page, 'home-locked');
  await page.getByLabel('A user’s token (JWT)').fill(token('carol'));
  await page.getByLabel('An API key').fill(KEY);
  await page.getByRole('button', { name: 'Connect' }).click();
  await page.getByText('connected as carol').waitFor();
  await page.getByRole('button', { name: 'Push from here' }).click();
  await page.getByText('{"text":"hello 1"}').waitFor();
  // An address ends in logs.
  assert(asked.length > 0);
  assert.deepEqual(asked.filter((address) => /token|ticket/.test(address)), []);
  await page.context().close();
});

test('whoever has a name of any letters is connected', async () => {
  const page = await openPage(browser);
  await page.goto(`${memory.url}/?user=${encodeURIComponent('Zoë+☕')}`);
  await page.getByText('connected as Zoë+☕').waitFor();
  await page.context().close();
});

test('keys are enough: skip, move, switch colours', async () => {
  const page = await openPage(browser);
  await page.goto(`${memory.url}/console`);
  await page.getByText('1 node is live').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  const reached = [];
  for (let i = 0; i < 7; i += 1) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent));
  }
  for (const wanted of ['Overview', 'Send', 'User', 'API', 'Switch to dark colours']) assert(reached.includes(wanted), `${wanted} in ${reached}`);
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByRole('button', { name: 'Switch to dark colours' }).click();
  assert.notEqual(await background(), light);
  await page.reload();
  assert.notEqual(await background(), light);
  await page.context().close();
});

/** A device of a user's, as small as one can be. */
class WebSocketDevice {
  constructor(url, user, device) {
    this.socket = new WebSocket(`${url.replace('http', 'ws')}/v1/ws?token=${user}&device=${device}`, 'postrider.v1+json');
    this.open = new Promise((resolve) => {
      this.socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.type === 'hello') resolve();
        if (frame.type === 'message') this.socket.send(JSON.stringify({ type: 'ack', positions: { [frame.channel]: frame.pos } }));
      };
    });
    this.ended = new Promise((resolve) => { this.socket.onclose = ({ code }) => resolve((this.closed = code)); });
  }
}
