// A push by hand, and a device that watches it arrive.
import { call, channelOf } from './api.js';
import { h, say } from './dom.js';
import { clock, seqOf } from './numbers.js';
import { Receiver } from './receiver.js';

const SHOWN = 50;
const STATES = { connected: 'good', waiting: 'warn', refused: 'bad' };

const input = (id, attributes = {}) => h('input', { id, autocomplete: 'off', spellcheck: 'false', ...attributes });
const field = (label, control, hint) => h('div', {}, h('label', { for: control.id }, label), control, hint && h('p', { class: 'hint' }, hint));

function pushForm(app) {
  const to = input('to', { value: 'user:alice', required: true });
  const data = h('textarea', { id: 'data', spellcheck: 'false', required: true }, '{"text": "hello"}');
  const ttl = input('ttl', { type: 'number', min: 0, inputmode: 'numeric', placeholder: 'the node’s default' });
  const collapse = input('collapse', { maxlength: 64, placeholder: 'none' });
  const answer = h('p', { class: 'answer', role: 'status' });
  const button = h('button', { class: 'primary' }, 'Push');
  const tell = (text, bad) => { say(answer, text); answer.classList.toggle('bad', Boolean(bad)); };
  const submit = async (event) => {
    event.preventDefault();
    let payload;
    try {
      payload = JSON.parse(data.value);
      data.removeAttribute('aria-invalid');
    } catch (error) {
      data.setAttribute('aria-invalid', 'true');
      data.focus();
      return tell(`The data is not JSON: ${error.message}. A text goes in double quotes.`, true);
    }
    const body = { to: channelOf(to.value.trim()), data: payload };
    if (ttl.value !== '') body.ttl = Number(ttl.value);
    if (collapse.value) body.collapse_key = collapse.value;
    button.disabled = true;
    try {
      const { id, pos, nodes, sessions } = await call('POST', '/v1/push', { body });
      tell(`Accepted as ${id}${pos ? `, number ${seqOf(pos)}` : ', kept nowhere (ttl 0)'}: handed to ${sessions} session${sessions === 1 ? '' : 's'} on ${nodes} node${nodes === 1 ? '' : 's'}.`);
    } catch (error) {
      if (error.status === 401) app.trouble(error);
      else tell(error.message, true);
    } finally {
      button.disabled = false;
    }
  };
  return h('form', { class: 'fields', onsubmit: submit },
    field('To', to, 'user:NAME, or just the name.'), field('Data', data, 'Any JSON.'),
    h('div', { class: 'pair' }, field('TTL, in seconds', ttl, '0: only who is connected now.'), field('Collapse key', collapse, 'Replaces an older one of the same key.')),
    h('div', {}, button, answer));
}

function receiverCard(app) {
  const open = app.stats.auth === 'none';
  const token = input('watch', open ? { value: 'alice', required: true } : { required: true, placeholder: 'a JWT whose sub is the user' });
  const state = h('span', { class: 'tag', role: 'status' }, 'not connected');
  const feed = h('ol', { class: 'feed', 'aria-live': 'polite', 'aria-label': 'Messages received' });
  const empty = h('div', { class: 'empty' }, h('p', {}, 'Nothing yet.'), h('p', {}, 'Messages show here the moment they arrive.'));
  const button = h('button', {}, 'Watch');
  let receiver;
  const add = (...children) => {
    empty.hidden = true;
    feed.prepend(h('li', { class: 'fresh' }, children));
    while (feed.children.length > SHOWN) feed.lastChild.remove();
  };
  const connect = () => {
    receiver?.close();
    receiver = new Receiver(token.value.trim(), {
      onstate: (name, text, detail) => {
        say(state, name === 'connected' ? `live on …${detail.node.slice(-6)}` : text);
        state.className = `tag ${STATES[name] ?? ''}`;
      },
      ongap: ({ reason }) => add(h('span', { class: 'data' }, `Messages were lost before this (${reason}).`)),
      onmessage: (frame) => add(
        h('span', { class: 'data' }, typeof frame.data === 'string' ? frame.data : JSON.stringify(frame.data)), h('time', { class: 'meta' }, clock(frame.ts)),
        h('span', { class: 'line' }, `${frame.channel}${frame.pos ? ` · number ${seqOf(frame.pos)}` : ' · ephemeral'} · ${frame.id}`)),
    });
  };
  const form = h('form', { class: 'row', onsubmit: (event) => { event.preventDefault(); connect(); } },
    h('div', { class: 'grow' }, h('label', { for: 'watch' }, open ? 'User' : 'User’s token'), token), button);
  const card = h('section', { class: 'card', 'aria-labelledby': 'watch-title' },
    h('header', {}, h('h2', { id: 'watch-title' }, 'Watch it arrive'), state), form, h('div', { class: 'inbox' }, empty, feed));
  if (open) connect();
  return { card, close: () => receiver?.close() };
}

export function sendView(place, app) {
  const watching = receiverCard(app);
  place.append(
    h('div', { class: 'title' }, h('h1', {}, 'Send')),
    h('div', { class: 'grid two' },
      h('section', { class: 'card', 'aria-labelledby': 'push-title' }, h('header', {}, h('h2', { id: 'push-title' }, 'Push a message')), pushForm(app)), watching.card));
  return watching.close;
}
