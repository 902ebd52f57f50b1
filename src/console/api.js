// The node's REST interface, with the operator's key where one is needed.

const KEY = 'postrider.key';
const WITHIN_MS = 8_000;

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** A refusal, in the node's own words. */
export class Refusal extends Error {
  constructor(status, code, detail) {
    super(detail);
    Object.assign(this, { status, code });
  }
}

export async function call(method, path, { body, headers = {} } = {}) {
  const sent = { accept: 'application/json', ...headers };
  if (key.get()) sent.authorization = `Bearer ${key.get()}`;
  if (body !== undefined) sent['content-type'] = 'application/json';
  let answer;
  try {
    const signal = AbortSignal.timeout(WITHIN_MS);
    answer = await fetch(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch {
    throw new Refusal(0, 'unreachable', 'The node does not answer. It may be restarting, or gone.');
  }
  const text = await answer.text();
  let json;
  try { json = JSON.parse(text); } catch { json = undefined; }
  if (!answer.ok) throw new Refusal(answer.status, json?.code ?? 'unknown', json?.detail ?? `The node answered ${answer.status}.`);
  return json;
}

export const get = (path) => call('GET', path);
export const channelPath = (channel, rest = '') => `/v1/channels/${encodeURIComponent(channel)}${rest}`;

/** `user:` is what most people mean. */
export const channelOf = (text) => (/^(user|topic):|^all$/.test(text) ? text : `user:${text}`);
