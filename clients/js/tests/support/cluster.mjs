// Real nodes and a Redis of their own, on loopback, to be killed and started again.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect as dial, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

function binary() {
  if (process.env.POSTRIDER_BIN) return process.env.POSTRIDER_BIN;
  const built = ['debug', 'release'].map((profile) => join(root, 'target', profile, 'postrider')).filter(existsSync);
  built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (built.length === 0) throw new Error('no postrider to test with: run `cargo build`, or set POSTRIDER_BIN');
  return built[0];
}

/** Waits for a condition; its last failure is told when it takes too long. */
export async function until(what, condition, limitMs = 15_000) {
  const deadline = performance.now() + limitMs;
  let failure;
  while (performance.now() < deadline) {
    try {
      const found = await condition();
      if (found) return found;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain: ${what}`, { cause: failure });
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

const listening = (port) =>
  new Promise((resolve) => {
    const socket = dial(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });

// A node refuses variables of its own prefix that it does not know, POSTRIDER_BIN among them.
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('POSTRIDER_')));

class Process {
  constructor(program, args) {
    this.program = program;
    this.output = '';
    this.child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', (data) => (this.output += data));
    this.exited = new Promise((resolve) => {
      this.child.on('error', (error) => resolve(error));
      this.child.on('exit', (code, signal) => resolve(code ?? signal));
    });
  }

  /** Waits for it to be of use; one that ends instead is told with what it said. */
  async ready(condition) {
    const gone = this.exited.then((how) => {
      throw new Error(`${this.program} ended (${how}): ${this.output}`);
    });
    await Promise.race([until(`${this.program} is ready`, condition), gone]);
    gone.catch(() => {});
  }

  async end(signal) {
    this.child.kill(signal);
    return this.exited;
  }
}

class Node {
  constructor(port, args) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.args = args;
  }

  async start() {
    this.process = new Process(binary(), ['serve', '--listen', `127.0.0.1:${this.port}`, ...this.args]);
    await this.process.ready(async () => (await fetch(`${this.url}/readyz`)).ok);
  }

  /** As a crash would. */
  kill() {
    return this.process.end('SIGKILL');
  }

  /** As a deployment would; answers with the exit code. */
  drain() {
    return this.process.end('SIGTERM');
  }
}

export class Cluster {
  nodes = [];

  static async start(count, args = []) {
    const cluster = new Cluster();
    const redis = await freePort();
    cluster.folder = mkdtempSync(join(tmpdir(), 'postrider-js-'));
    cluster.redis = new Process('redis-server', [
      ...['--port', `${redis}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', cluster.folder],
    ]);
    try {
      await cluster.redis.ready(() => listening(redis));
      const quick = ['--heartbeat-ttl-ms', '1500', '--heartbeat-interval-ms', '300', '--heartbeat-grace-ms', '500'];
      for (let i = 0; i < count; i += 1) {
        cluster.nodes.push(new Node(await freePort(), ['--redis', `redis://127.0.0.1:${redis}`, ...quick, ...args]));
      }
      await Promise.all(cluster.nodes.map((node) => node.start()));
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  get urls() {
    return this.nodes.map(({ url }) => url);
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.process?.end('SIGKILL')));
    await this.redis.end('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Pushes as a careful sender does: with one key, on one node after the other, until it is accepted. */
  async push(to, data, { headers, ...rest } = {}) {
    const key = `"${to}-${JSON.stringify(data)}"`;
    let at = 0;
    return until(`a push to ${to} is accepted`, async () => {
      const { url } = this.nodes[at++ % this.nodes.length];
      const response = await fetch(`${url}/v1/push`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key, ...headers },
        body: JSON.stringify({ to, data, ...rest }),
        signal: AbortSignal.timeout(5_000),
      });
      if (response.status >= 500) throw new Error(await response.text());
      if (response.status !== 202) throw new Error(`${response.status} ${await response.text()}`);
      return response.json();
    });
  }

  /** Waits until a device's cursor is kept at a position. */
  async acknowledged(channel, device, pos) {
    await until(`${device} of ${channel} is at ${pos}`, async () => {
      const { cursors } = await (await fetch(`${this.nodes[0].url}/v1/channels/${channel}`)).json();
      return cursors.some((cursor) => cursor.device === device && cursor.pos === pos);
    });
  }
}
