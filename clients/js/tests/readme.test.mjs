// The examples of the README are run as they are printed, but for the address of the node.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Cluster, until } from './support/cluster.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const examples = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, text]) => text);

let cluster, folder;
before(async () => {
  // Inside the package, so that it finds itself by its name.
  folder = mkdtempSync(join(root, 'tests/.readme-'));
  cluster = await Cluster.start(1);
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cluster?.stop();
});

/** Runs an example until it has said something. */
async function run(index, text, meanwhile = () => {}) {
  const file = join(folder, `example${index}-${Math.random()}.mjs`);
  assert.ok(examples[index].includes('http://127.0.0.1:8080'));
  writeFileSync(file, examples[index].replaceAll('http://127.0.0.1:8080', cluster.urls[0]));
  const child = spawn(process.execPath, [file]);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const exited = new Promise((resolve) => child.on('exit', resolve));
  try {
    await until(`example ${index} says ${text}`, () => output.includes(text)).catch((error) => {
      throw new Error(`it said: ${output}`, { cause: error });
    });
    await meanwhile();
  } finally {
    child.kill();
    await exited;
  }
  return output;
}

test('there are as many examples as are tested', () => assert.equal(examples.length, 4));

test('receive', { timeout: 30_000 }, async () => {
  await cluster.push('user:alice', { text: 'hello' });
  const output = await run(0, "message { text: 'hello' }");
  assert.match(output, /^connecting {2}connecting\nconnected {2}connected to node \S+\n/);
});

test('topics', { timeout: 30_000 }, async () => {
  // It begins with what comes from then on.
  const pushing = setInterval(() => cluster.push('topic:orders.42', performance.now()).catch(() => {}), 250);
  try {
    await run(1, 'topic:orders.42 ');
  } finally {
    clearInterval(pushing);
  }
});

test('acknowledge when the work is done', { timeout: 30_000 }, async () => {
  const { pos } = await cluster.push('user:bob', 'page 1');
  await run(2, 'printed page 1', () => cluster.acknowledged('user:bob', 'printer', pos));
  await cluster.push('user:bob', 'page 2');
  const output = await run(2, 'printed page 2');
  assert.doesNotMatch(output, /page 1/);
});

test('tokens', { timeout: 30_000 }, async () => {
  await run(3, 'error token getToken failed: no token: 404');
});
