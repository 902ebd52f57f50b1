// Real nodes, a way to them that survives their death, and a browser that misses nothing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const BINARY = process.env.POSTRIDER_BIN ?? fileURLToPath(new URL('../../target/debug/postrider', import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
// A node refuses variables of its own prefix that it does not know, POSTRIDER_BIN among them.
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('POSTRIDER_')));

export async function until(what, condition, limitMs = 15_000) {
  const deadline = performance.now() + limitMs;
  let last;
  while (performance.now() < deadline) {
    try { last = await condition(); if (last) return last; } catch (error) { last = error; }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`waited in vain: ${what}`, { cause: last });
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function run(program, args, env = {}) {
  const child = spawn(program, args, { env: { ...environment, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (child.said += data));
  child.on('error', (error) => (child.said += error));
  return child;
}

export async function startNode(args = [], env = {}) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = run(BINARY, ['serve', '--listen', `127.0.0.1:${port}`, ...args], env);
  await until('the node is ready', async () => {
    assert.equal(child.exitCode, null, child.said);
    return (await fetch(`${url}/readyz`)).ok;
  });
  return { port, url, child, kill: () => child.kill('SIGKILL') };
}

export async function startRedis() {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'postrider-browser-'));
  const child = run('redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]);
  await until('Redis listens', () => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); }).on('error', () => resolve(false));
  }));
  return { url: `redis://127.0.0.1:${port}`, kill: () => { child.kill('SIGKILL'); rmSync(folder, { recursive: true, force: true }); } };
}

/** A load balancer without a memory: each connection goes to the first node that takes it. */
export async function startBalancer(nodes) {
  const open = new Set();
  const server = createServer((client) => {
    const attempt = (at) => {
      if (at === nodes.length) return client.destroy();
      const upstream = connect(nodes[at].port, '127.0.0.1', () => { client.pipe(upstream).pipe(client); });
      upstream.on('error', () => (upstream.readyState === 'open' ? client.destroy() : attempt(at + 1)));
      upstream.on('close', () => upstream.bytesRead && client.destroy());
      client.on('close', () => upstream.destroy());
    };
    open.add(client);
    client.on('error', () => {}).on('close', () => open.delete(client));
    attempt(0);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => { for (const client of open) client.destroy(); server.close(); } };
}

const program = process.env.CHROMIUM
  ?? ['chromium', 'chromium-browser', 'google-chrome'].flatMap((name) => process.env.PATH.split(delimiter).map((folder) => join(folder, name))).find((file) => existsSync(file));

export async function startBrowser() {
  assert(program, 'chromium is not installed: run ./scripts/test, or `apt-get install chromium`');
  return chromium.launch({ executablePath: program, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
}

export const WIDE = { width: 1280, height: 860 };
export const NARROW = { width: 360, height: 740 };

/** A page that remembers everything that went wrong in it. */
export async function openPage(browser, { viewport = WIDE, colorScheme = 'light' } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.wrong = [];
  // What the browser itself says of a refused request is what the test asked for.
  page.on('console', (message) => message.type() === 'error' && !/^Failed to load resource|WebSocket connection to/.test(message.text()) && page.wrong.push(message.text()));
  page.on('pageerror', (error) => page.wrong.push(String(error)));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  return page;
}

/** No errors, nothing wider than the screen, no value that was never meant to be text, and nothing that axe finds. */
export async function inspect(page, what) {
  assert.deepEqual(page.wrong, [], what);
  const text = await page.evaluate(() => document.body.innerText);
  assert.doesNotMatch(text, /\[object |\bundefined\b|\bNaN\b|Invalid Date/, what);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert(overflow <= 0, `${what}: ${overflow} px wider than the screen`);
  // By way of the debugger, which the page's policy does not bind.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ''}`).join('\n  ')}`);
  assert.deepEqual(found, [], what);
}

/** Where pictures go when somebody wants to look at them: never into the tree. */
export async function picture(page, name, fullPage = true) {
  if (process.env.PICTURES) await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage });
}
