// A node that does what a test says, behind a WebSocket that needs no network.
// Nothing here takes time: with mocked timers a test decides when it passes.

export const CHANNEL = 'user:alice';
export const pos = (seq) => `00000000000000aa.${seq}`;

/** Lets everything run that waits for nothing but its turn. */
export async function settle() {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}

/** A WebSocket of one connection, seen from the node's side. */
class Peer {
  frames = [];
  closedWith = undefined;

  constructor(url, protocols, socket) {
    this.url = new URL(url);
    this.protocols = protocols;
    this.socket = socket;
  }

  async accept() {
    this.socket.readyState = 1;
    this.socket.onopen?.({});
    await settle();
    return this;
  }

  /** Sends a frame (or a text as it is). */
  async send(frame) {
    this.socket.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    await settle();
    return this;
  }

  async hello(extra = {}) {
    await this.accept();
    const resume = this.frames.find((frame) => frame.type === 'resume');
    return this.send({
      type: 'hello',
      session: 's1',
      node: 'n1',
      user: 'alice',
      device: this.url.searchParams.get('device'),
      resumed: Object.keys(resume?.positions ?? {}).length > 0,
      positions: { [CHANNEL]: pos(0) },
      heartbeat_ms: 25_000,
      limits: {},
      ...extra,
    });
  }

  message(seq, extra = {}) {
    return this.send({ type: 'message', id: `id${seq}`, channel: CHANNEL, pos: pos(seq), ts: seq, data: seq, ...extra });
  }

  async close(code, reason = '') {
    this.socket.readyState = 3;
    this.socket.onclose?.({ code, reason });
    await settle();
  }

  of(type) {
    return this.frames.filter((frame) => frame.type === type);
  }
}

export class FakeServer {
  /** Every connection that was ever tried. */
  peers = [];

  constructor() {
    const { peers } = this;
    this.WebSocket = class {
      readyState = 0;
      onopen = null;
      onmessage = null;
      onclose = null;
      onerror = null;
      constructor(url, protocols) {
        this.peer = new Peer(url, protocols, this);
        peers.push(this.peer);
      }
      send(text) {
        if (this.readyState !== 1) throw new Error('not open');
        this.peer.frames.push(JSON.parse(text));
      }
      close(code, reason) {
        this.readyState = 3;
        this.peer.closedWith ??= { code, reason };
      }
    };
  }

  get last() {
    return this.peers.at(-1);
  }
}

/** Keeps all that a connection tells. */
export function record(connection) {
  const seen = { messages: [], gaps: [], states: [], errors: [] };
  connection.on('gap', (gap) => seen.gaps.push(gap));
  connection.on('state', (change) => seen.states.push(change));
  connection.on('error', (error) => seen.errors.push(error));
  connection.on('message', (message) => seen.messages.push(message));
  return seen;
}
