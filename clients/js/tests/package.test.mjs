// What is published: its form, its types, its size, and that every way of loading it works.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import * as esm from 'postrider';

const root = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
const manifest = require('../package.json');
const GZIP_BYTES_MAX = 6 * 1_024;

let folder, tarball;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'postrider-pack-'));
  // Packed as it is: `npm test` has built it, and building again would pull it from under other tests.
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], { cwd: root });
  tarball = readFileSync(join(folder, readdirSync(folder)[0]));
});
after(() => rmSync(folder, { recursive: true, force: true }));

test('publint has nothing to say', async () => {
  const buffer = tarball.buffer.slice(tarball.byteOffset, tarball.byteOffset + tarball.length);
  const { messages } = await publint({ pack: { tarball: buffer }, strict: true });
  assert.deepEqual(messages, []);
});

test('the types are right however the package is resolved', async () => {
  const analysis = await checkPackage(createPackageFromTarballData(new Uint8Array(tarball)));
  assert.equal(analysis.types.kind, 'included');
  assert.deepEqual(analysis.problems, []);
});

test('what pages load is under 6 kB', () => {
  const bytes = gzipSync(readFileSync(join(root, 'dist/postrider.min.js')), { level: 9 }).length;
  assert.ok(bytes < GZIP_BYTES_MAX, `${bytes} bytes gzipped`);
});

test('nothing is needed and nothing superfluous is published', () => {
  assert.deepEqual([manifest.dependencies, manifest.peerDependencies], [undefined, undefined]);
  const files = execFileSync('tar', ['-tz'], { input: tarball, encoding: 'utf8' }).trim().split('\n');
  const folders = new Set(files.map((file) => file.split('/').slice(1, 3).join('/').replace(/\/.*\.(d\.)?ts$/, '')));
  assert.deepEqual([...folders].sort(), ['README.md', 'dist/cjs', 'dist/esm', 'dist/postrider.min.js', 'package.json']);
});

test('ESM, CJS and the file for pages hold the same', async () => {
  const names = Object.keys(esm).sort();
  assert.deepEqual(names, ['CLOSE_CODES', 'PostriderError', 'UnauthorizedError', 'afterClose', 'connect', 'memoryStorage', 'webStorage']);
  assert.deepEqual(Object.keys(require('postrider')).sort(), names);
  assert.deepEqual(Object.keys(await import('../dist/postrider.min.js')).sort(), names);
});

test('applications compile against the types, in Node.js and in pages', () => {
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc');
  const strict = ['--ignoreConfig', '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--module', 'nodenext', '--target', 'es2022'];
  for (const [file, ...flags] of [
    ['usage.mts', '--types', 'node', '--lib', 'es2022', '--skipLibCheck'],
    ['usage.cts', '--lib', 'es2022', '--types', ''],
    ['browser.mts', '--lib', 'es2022,dom', '--types', ''],
  ]) {
    const { status, stdout } = spawnSync(process.execPath, [tsc, ...strict, ...flags, join(root, 'tests/types', file)], { encoding: 'utf8' });
    assert.equal(status, 0, `${file}: ${stdout}`);
  }
});

test('the lock file names no host', () => {
  assert.doesNotMatch(readFileSync(join(root, 'package-lock.json'), 'utf8'), /"resolved": "http/);
});
