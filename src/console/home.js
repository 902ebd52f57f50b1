// A device of one user, and a button that pushes to it.
import { call, get, key, Refusal } from './api.js';
import { $, copyButton, h, say } from './dom.js';
import { clock, shortId } from './numbers.js';
import { Proof } from './proof.js';
import { Receiver } from './receiver.js';
import { themeSwitch } from './theme.js';

const SHOWN = 50;
const PROOF_MESSAGES = 400;
const STATES = { connected: 'good', waiting: 'warn', refused: 'bad' };

let user = new URLSearchParams(location.search).get('user') || 'alice';
let receiver;
let proof;
let pushed = 0;

themeSwitch($('bar'));

/** A word of a shell's, whatever is in it. */
const word = (text) => (/^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function commandFor(name) {
  const auth = key.get() ? " \\\n  -H 'authorization: Bearer '\"$POSTRIDER_API_KEY\"" : '';
  const body = `{"to": ${JSON.stringify(`user:${name}`)}, "data": {"text": "hello"}}`;
  return `curl ${word(`${location.origin}/v1/push`)}${auth} \\\n  -H 'content-type: application/json' \\\n  -d ${word(body)}`;
}

function introduce(name) {
  user = name;
  say($('user'), name);
  say($('curl'), commandFor(name));
}

function connect(token) {
  receiver?.close();
  receiver = new Receiver(token, { onmessage: show, onstate: state, ongap: gap });
}

function state(name, text, detail) {
  const tag = $('state');
  say(tag, text);
  tag.className = `tag ${STATES[name] ?? ''}`;
  const on = name === 'connected';
  $('push').disabled = !on;
  $('proof').disabled = !on && !proof?.running;
  if (on) {
    introduce(detail.user.replace(/^user:/, ''));
    say($('holder'), ` (${detail.node})`);
    $('refused').hidden = $('sign-in').hidden = true;
    if (!proof || proof.user !== user) {
      $('tally').replaceChildren();
      proof = new Proof(user, $('tally'));
    }
  }
  if (name === 'refused') {
    const authenticates = detail?.code === 4403;
    $('sign-in').hidden = !authenticates;
    $('refused').hidden = authenticates && !$('token').value;
    $('refused').replaceChildren(h('p', {}, h('strong', {}, 'The node closed the connection. '), text));
  }
}

function show(frame) {
  if (proof?.take(frame.data)) return settle();
  const text = typeof frame.data === 'string' ? frame.data : JSON.stringify(frame.data);
  add(h('li', { class: 'fresh' }, h('span', { class: 'data' }, text), h('time', { class: 'meta' }, clock(frame.ts))));
}

function gap(frame) {
  add(h('li', {}, h('span', { class: 'data' }, `Messages were lost before this (${frame.reason}).`)));
}

function add(item) {
  $('empty').hidden = true;
  $('feed').prepend(item);
  while ($('feed').children.length > SHOWN) $('feed').lastChild.remove();
}

$('push').addEventListener('click', async () => {
  pushed += 1;
  try {
    const answer = await call('POST', '/v1/push', { body: { to: `user:${user}`, data: { text: `hello ${pushed}` } } });
    const devices = answer.sessions === 1 ? '1 session' : `${answer.sessions} sessions`;
    say($('answer'), `202: kept as ${shortId(answer.id)}, handed to ${devices}`);
  } catch (error) {
    const missing = error instanceof Refusal && error.status === 401;
    say($('answer'), missing ? 'This node asks senders for an API key: use the command with yours.' : error.message);
  }
});

function settle() {
  if (!proof.running && proof.run && proof.verdict.waiting === 0) say($('proof-state'), 'Done: nothing was lost');
}

$('proof').addEventListener('click', async () => {
  if (proof.running) return proof.stop();
  $('proof').textContent = 'Stop';
  await proof.start(PROOF_MESSAGES, (what, why) => {
    if (what === 'sending') say($('proof-state'), 'Sending');
    if (what === 'retrying') say($('proof-state'), 'Not accepted, trying again under the same key');
    if (what === 'refused') say($('proof-state'), why);
    if (what === 'sent') say($('proof-state'), 'All accepted, waiting for the last to arrive');
  });
  $('proof').textContent = 'Start again';
  settle();
  proof.show();
});

$('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  key.set($('key').value.trim());
  connect($('token').value.trim());
});

introduce(user);
$('copy').append(copyButton(() => $('curl').textContent));
proof = new Proof(user, $('tally'));
connect(user);
get('/v1/stats').then((stats) => ($('memory').hidden = stats.store !== 'memory')).catch(() => {});
