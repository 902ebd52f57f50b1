// Chromium's own EventSource, through a load balancer, while a node is killed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, startBalancer, startBrowser, startNode, startRedis, until } from './support.mjs';

let browser, redis, nodes, balancer;

before(async () => {
  [browser, redis] = await Promise.all([startBrowser(), startRedis()]);
  const quick = ['--redis', redis.url, '--heartbeat-ttl-ms', '1500', '--heartbeat-interval-ms', '300', '--heartbeat-grace-ms', '500'];
  nodes = await Promise.all([startNode(quick), startNode(quick)]);
  balancer = await startBalancer(nodes);
});

after(async () => {
  await browser?.close();
  balancer?.stop();
  for (const one of [redis, ...(nodes ?? [])]) one?.kill();
});

test('an event stream in a page goes on elsewhere without loss or repeat', async () => {
  const page = await openPage(browser);
  // The cookie of a page of ours: EventSource can send nothing else.
  await page.context().addCookies([{ name: 'token', value: 'ann', url: balancer.url }]);
  await page.goto(`${balancer.url}/docs`);
  await page.evaluate(() => {
    globalThis.seen = { hellos: [], numbers: [], gaps: 0 };
    const source = (globalThis.source = new EventSource('/v1/events?device=page&from=now'));
    source.onmessage = ({ data }) => globalThis.seen.numbers.push(JSON.parse(data).data);
    source.addEventListener('hello', ({ data }) => globalThis.seen.hellos.push(JSON.parse(data)));
    source.addEventListener('gap', () => (globalThis.seen.gaps += 1));
  });
  const seen = () => page.evaluate(() => globalThis.seen);
  await until('the page is greeted', async () => (await seen()).hellos.length === 1);
  const push = (data) => fetch(`${nodes[1].url}/v1/push`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ to: 'user:ann', data }),
  });
  for (let n = 0; n < 20; n += 1) assert.equal((await push(n)).status, 202);
  await until('twenty have come', async () => (await seen()).numbers.length >= 20);
  // The balancer prefers the first node: that is where the page is.
  nodes[0].kill();
  for (let n = 20; n < 40; n += 1) assert.equal((await push(n)).status, 202);
  await until('the rest has come', async () => (await seen()).numbers.length >= 40, 20_000);
  const { numbers, hellos, gaps } = await seen();
  assert.deepEqual(numbers, Array.from({ length: 40 }, (_, n) => n));
  assert.equal(gaps, 0);
  assert.deepEqual([hellos.at(-1).resumed, hellos.length > 1], [true, true]);
  assert.notEqual(hellos[0].node, hellos.at(-1).node);
  await page.evaluate(() => globalThis.source.close());
});
