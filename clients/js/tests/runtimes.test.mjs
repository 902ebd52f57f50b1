// The same package in other runtimes, where they are installed.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Cluster } from './support/cluster.mjs';

const smoke = fileURLToPath(new URL('support/smoke.mjs', import.meta.url));
const RUNTIMES = [
  ['Node.js', process.execPath, typeof WebSocket === 'function' ? [] : undefined],
  ['Deno', process.env.DENO ?? 'deno', ['run', '--allow-net', '--no-config', '--no-lock']],
  ['Bun', process.env.BUN ?? 'bun', ['run']],
];

let cluster;
before(async () => (cluster = await Cluster.start(1)));
after(() => cluster?.stop());

for (const [name, program, args] of RUNTIMES) {
  const found = args !== undefined && spawnSync(program, ['--version']).status === 0;
  const skip = !found && `SKIPPED: ${name} is not installed, or has no WebSocket of its own`;
  test(`${name} receives over both transports`, { skip, timeout: 30_000 }, async () => {
    const { stdout } = await promisify(execFile)(program, [...args, smoke, cluster.urls[0]]);
    assert.deepEqual(JSON.parse(stdout.trim().split('\n').at(-1)), { websocket: [1, 2], sse: [1, 2] });
  });
}
