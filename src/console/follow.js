// One user: sessions, devices, what is kept, and what became of each message.
import { call, channelOf, channelPath, get } from './api.js';
import { $, h, say } from './dom.js';
import { bytes, clock, count, seqOf } from './numbers.js';

const EVERY_MS = 1_500;
const MESSAGES = 25;
const KINDS = { received: 'good', acknowledged: 'good', waiting: 'warn', written: 'warn', dropped: 'bad' };

const state = (name, reason) => h('span', { class: `tag ${KINDS[name] ?? ''}` }, reason ? `${name}: ${reason.replaceAll('_', ' ')}` : name);

function table(caption, heads, rows) {
  return h('div', { class: 'table', tabindex: 0, role: 'group', 'aria-label': caption }, h('table', {},
    h('caption', { class: 'visually-hidden' }, caption), h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))), h('tbody', {}, rows)));
}

const cell = (...children) => h('td', {}, children);

/** Asks before something that cannot be taken back. */
function confirm(title, text, word) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { 'aria-labelledby': 'ask-title' }, h('h2', { id: 'ask-title' }, title), h('p', {}, text),
      h('form', { method: 'dialog', class: 'row' }, h('button', { value: 'no' }, 'Cancel'), h('button', { value: 'yes', class: 'danger' }, word)));
    dialog.addEventListener('close', () => { resolve(dialog.returnValue === 'yes'); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function sessionRow(session, close) {
  return h('tr', {},
    cell(session.device ?? h('span', { class: 'dim' }, 'nameless'), h('span', { class: 'small' }, session.dialect)),
    cell(h('code', {}, `…${session.node.slice(-6)}`)), cell(clock(session.connected_at)),
    cell(session.live ? 'up to date' : 'catching up', session.outbox_bytes ? h('span', { class: 'small' }, `${bytes(session.outbox_bytes)} unsent`) : null),
    h('td', { class: 'right' }, h('button', { type: 'button', class: 'small danger', onclick: () => close(session) }, 'Close', h('span', { class: 'visually-hidden' }, ` session of ${session.device ?? 'a nameless device'}`))));
}

function deviceRow(cursor, head) {
  const behind = Math.max(seqOf(head) - seqOf(cursor.pos), 0);
  return h('tr', {}, cell(cursor.device), cell(String(seqOf(cursor.pos))), cell(behind ? `${count(behind)} behind` : 'up to date'), cell(clock(cursor.at)));
}

function messageRow(message) {
  const data = message.data === undefined ? null : typeof message.data === 'string' ? message.data : JSON.stringify(message.data);
  const devices = message.devices.map((device) => h('span', { class: 'small' }, `${device.device}: ${device.state}${device.reason ? ` (${device.reason.replaceAll('_', ' ')})` : ''}`));
  return h('tr', {}, cell(String(seqOf(message.pos))), h('td', { class: 'data' }, data === null ? h('span', { class: 'dim' }, 'gone') : data.length > 240 ? `${data.slice(0, 240)}…` : data),
    cell(state(message.state, message.reason), devices), cell(clock(message.accepted_at)));
}

class Following {
  constructor(place, app, channel) {
    Object.assign(this, { place, app, channel, over: false, shown: {} });
    const part = (title, id, aside) => {
      const body = h('div', {}, h('div', { class: 'empty' }, h('p', {}, 'Asking…')));
      this.shown[id] = { body, text: '' };
      return h('section', { class: 'card', 'aria-labelledby': `${id}-title` }, h('header', {}, h('h2', { id: `${id}-title` }, title), aside ?? ''), body);
    };
    this.online = h('span', { class: 'tag', role: 'status' }, 'asking');
    this.note = h('span', { class: 'dim small', role: 'status' });
    this.all = h('button', { type: 'button', class: 'small danger', disabled: true, onclick: () => this.closeAll() }, 'Close all');
    place.append(
      h('div', { class: 'title' }, h('h1', {}, channel.replace(/^user:/, '')), this.online, this.note),
      h('div', { class: 'stack' },
        h('div', { class: 'grid wide-left' }, part('Sessions', 'sessions', this.all), part('Kept and counted', 'ledger')),
        part('Devices', 'devices'), part('Latest messages', 'messages')));
    this.tick();
  }

  async tick() {
    clearTimeout(this.timer);
    try {
      const { channel } = this;
      const [info, sessions, recent] = await Promise.all([
        get(channelPath(channel)), get(channelPath(channel, '/sessions')), get(channelPath(channel, `/messages?limit=${MESSAGES}`))]);
      if (this.over) return;
      this.app.trouble(undefined);
      this.render(info, sessions, recent);
    } catch (error) {
      if (this.over) return;
      if (error.status === 422) { say(this.online, 'no such channel'); say(this.note, error.message); return; }
      this.app.trouble(error);
    }
    if (!this.over) this.timer = setTimeout(() => this.tick(), document.hidden ? EVERY_MS * 5 : EVERY_MS);
  }

  /** Only what changed is drawn anew: focus and selection stay where they are. */
  put(id, facts, draw) {
    const text = JSON.stringify(facts);
    const part = this.shown[id];
    if (part.text === text) return;
    part.text = text;
    const focused = part.body.contains(document.activeElement);
    part.body.replaceChildren(...[draw()].flat());
    if (focused) (part.body.querySelector('button') ?? $('main')).focus();
  }

  render(info, { sessions, unanswered, more }, { messages }) {
    say(this.online, info.online ? `online, ${info.sessions} session${info.sessions === 1 ? '' : 's'}` : 'offline');
    this.online.className = `tag ${info.online ? 'good' : ''}`;
    this.all.disabled = sessions.length === 0;
    const empty = (first, second) => h('div', { class: 'empty' }, h('p', {}, first), second && h('p', {}, second));
    this.put('sessions', [sessions, unanswered, more], () => [
      sessions.length ? table('Sessions', ['Device', 'Node', 'Since', 'State', h('span', { class: 'visually-hidden' }, 'Action')], sessions.map((one) => sessionRow(one, (session) => this.closeOne(session)))) : empty('Nobody is connected.', 'What is sent waits here until its time is over.'),
      unanswered.length > 0 && h('p', { class: 'dim small' }, `${unanswered.length} node${unanswered.length === 1 ? '' : 's'} did not answer in time.`),
      more && h('p', { class: 'dim small' }, 'There are more than are listed.')].filter(Boolean));
    this.put('ledger', [info.mailbox, info.head, info.ledger], () => h('dl', { class: 'facts' },
      [['Kept', info.mailbox], ['Last number', seqOf(info.head)], ...Object.entries(info.ledger).map(([name, value]) => [name[0].toUpperCase() + name.slice(1), value])]
        .map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, count(value))))));
    this.put('devices', [info.cursors, info.head], () => info.cursors.length
      ? table('Devices', ['Device', 'Acknowledged', 'State', 'At'], info.cursors.map((cursor) => deviceRow(cursor, info.head)))
      : empty('No named device yet.', 'A client names itself with ?device=phone.'));
    this.put('messages', messages, () => messages.length
      ? table('Latest messages', ['Number', 'Data', 'Fate', 'Accepted'], messages.map(messageRow)) : empty('Nothing was sent yet, or all of it is forgotten.'));
  }

  async closeOne(session) {
    const who = session.device ?? 'a nameless device';
    if (!(await confirm('Close this session?', `The socket of ${who} is closed with 4000. A client that keeps to the codes stays away until it is started again; nothing that is kept is lost.`, 'Close it'))) return;
    await this.act(() => call('DELETE', channelPath(this.channel, `/sessions/${session.id}`)), 'Session closed.');
  }

  async closeAll() {
    if (!(await confirm('Close all sessions?', `Every socket of ${this.channel} is closed with 4000, on every node. What is kept is not touched.`, 'Close all'))) return;
    await this.act(() => call('DELETE', channelPath(this.channel, '/sessions')), 'Sessions closed.');
  }

  async act(what, done) {
    try {
      await what();
      say(this.note, done);
    } catch (error) {
      if (error.status === 401) return this.app.trouble(error);
      say(this.note, error.message);
    }
    if (!this.over) this.tick();
  }

  stop() {
    this.over = true;
    clearTimeout(this.timer);
  }
}

export function followView(place, app, name) {
  const input = h('input', { id: 'who', value: name.replace(/^user:/, ''), autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'alice' });
  place.append(h('form', { class: 'find', role: 'search', onsubmit: (event) => { event.preventDefault(); location.hash = `user/${encodeURIComponent(input.value.trim())}`; } },
    h('label', { for: 'who', class: 'visually-hidden' }, 'User or channel'), input, h('button', { class: 'primary' }, 'Follow')));
  if (!name) {
    place.append(h('div', { class: 'card empty' }, h('h1', {}, 'Follow a user'), h('p', {}, 'Sessions, devices, what is kept for them, and what became of each message.')));
    input.focus();
    return () => {};
  }
  const following = new Following(place, app, channelOf(name));
  return () => following.stop();
}
