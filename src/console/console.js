// The console: signs in, keeps the view that the address names, tells of trouble.
import { get, key } from './api.js';
import { $, h, say } from './dom.js';
import { followView } from './follow.js';
import { overviewView } from './overview.js';
import { sendView } from './send.js';
import { themeSwitch } from './theme.js';

const VIEWS = { overview: overviewView, send: sendView, user: followView };
const AGAIN_MS = 2_000;

const app = { stats: undefined, trouble };
let leave;
let again;

themeSwitch($('bar'));

/** Shows or takes back what is wrong; a missing key leads to the door. */
function trouble(error) {
  if (error?.status === 401 || error?.status === 403) return signIn(error);
  const health = $('health');
  $('trouble').hidden = !error;
  if (error) $('trouble').replaceChildren(h('p', {}, h('strong', {}, 'Trouble. '), error.message));
  say(health, error ? (error.status === 0 ? 'unreachable' : 'trouble') : app.stats?.unready ? 'not ready' : 'ready');
  health.className = `tag ${error ? 'bad' : app.stats?.unready ? 'warn' : 'good'}`;
}

function signIn(error) {
  leave?.();
  leave = undefined;
  const refused = key.get() !== '';
  key.set('');
  $('view').hidden = $('sign-out').hidden = $('trouble').hidden = $('memory').hidden = true;
  $('sign-in').hidden = false;
  say($('health'), 'signed out');
  $('health').className = 'tag';
  const kindly = error.status === 403 ? 'This key is known but may not do this: ask for one with the scope “admin”.' : 'This key is not one of this node’s. Is it complete?';
  say($('key-error'), refused ? kindly : '');
  $('key').toggleAttribute('aria-invalid', refused);
  $('key').focus();
}

$('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  key.set($('key').value.trim());
  start();
});

$('sign-out').addEventListener('click', () => {
  key.set('');
  start();
});

/** Who is answering? Only then is there anything to show. */
async function start() {
  clearTimeout(again);
  try {
    app.stats = await get('/v1/stats');
  } catch (error) {
    trouble(error);
    if (error.status !== 401 && error.status !== 403) again = setTimeout(start, AGAIN_MS);
    return;
  }
  $('sign-in').hidden = true;
  $('key').value = '';
  $('view').hidden = false;
  $('sign-out').hidden = !key.get();
  $('memory').hidden = app.stats.store !== 'memory';
  trouble(undefined);
  route();
}

function route() {
  if (!app.stats) return;
  const [name, ...rest] = location.hash.slice(1).split('/');
  const view = VIEWS[name] ? name : 'overview';
  for (const link of document.querySelectorAll('.bar nav a')) {
    if (link.getAttribute('href') === `#${view}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  leave?.();
  const place = $('view');
  place.replaceChildren();
  leave = VIEWS[view](place, app, decodeURIComponent(rest.join('/')));
}

addEventListener('hashchange', route);
start();
