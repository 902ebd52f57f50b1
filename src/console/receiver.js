// One session of one user: acknowledges, resumes, comes back as close codes ask.
// The package in clients/js does more; this is what a page of ours needs.

const REMEMBERED = 512;

/** What a close code asks for: 'stay', 'now' or 'later'. */
function after(code) {
  if (code === 1000 || code === 1008 || (code >= 4000 && code < 4100) || (code >= 4400 && code < 4500)) return 'stay';
  return code >= 4200 && code < 4300 ? 'now' : 'later';
}

function base64url(text) {
  const bytes = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte));
  return btoa(bytes.join('')).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export class Receiver {
  /** Handlers: `onmessage(frame)`, `onstate(state, text)`, `ongap(frame)`. */
  constructor(token, { device, from = 'now', ...handlers }) {
    Object.assign(this, { token, device, from, handlers, positions: {}, seen: new Set(), attempts: 0, over: false, connects: 0 });
    this.open();
  }

  open() {
    const url = new URL('/v1/ws', location.href.replace(/^http/, 'ws'));
    if (this.device) url.searchParams.set('device', this.device);
    const resuming = Object.keys(this.positions).length > 0;
    if (resuming) url.searchParams.set('resume', '1');
    else if (this.from) url.searchParams.set('from', this.from);
    this.state('connecting', this.connects ? 'reconnecting' : 'connecting');
    // Not in the address, which ends in logs.
    const socket = (this.socket = new WebSocket(url, ['postrider.v1+json', `bearer.${base64url(this.token)}`]));
    socket.onopen = () => resuming && socket.send(JSON.stringify({ type: 'resume', positions: this.positions }));
    socket.onmessage = ({ data }) => this.take(JSON.parse(data), socket);
    socket.onclose = ({ code, reason }) => socket === this.socket && this.closed(code, reason);
  }

  take(frame, socket) {
    const { handlers } = this;
    if (frame.type === 'hello') {
      this.attempts = 0;
      this.connects += 1;
      this.positions = { ...frame.positions, ...this.positions };
      this.node = frame.node;
      this.state('connected', `connected as ${frame.user.replace(/^user:/, '')}`, frame);
    } else if (frame.type === 'ping') {
      socket.send('{"type":"pong"}');
    } else if (frame.type === 'gap') {
      if (frame.to) this.positions[frame.channel] = frame.to;
      handlers.ongap?.(frame);
    } else if (frame.type === 'message') {
      if (frame.pos) {
        this.positions[frame.channel] = frame.pos;
        socket.send(JSON.stringify({ type: 'ack', positions: { [frame.channel]: frame.pos } }));
      }
      if (this.seen.has(frame.id)) return;
      this.seen.add(frame.id);
      if (this.seen.size > REMEMBERED) this.seen.delete(this.seen.values().next().value);
      handlers.onmessage?.(frame);
    }
  }

  closed(code, reason) {
    if (this.over) return;
    const then = after(code);
    if (then === 'stay') {
      this.over = true;
      this.state('refused', reason || `closed with ${code}`, { code });
      return;
    }
    const most = then === 'now' ? 200 : Math.min(250 * 2 ** this.attempts, 5_000);
    this.attempts += 1;
    this.state('waiting', 'connection lost, trying again');
    this.timer = setTimeout(() => this.open(), Math.random() * most + 50);
  }

  state(name, text, detail) {
    this.handlers.onstate?.(name, text, detail);
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    this.socket.close(1000);
  }
}
