// The first users' own client: the npm package ws, a cookie, and nothing of ours.
//
//   node first_users.mjs A B C
//
// A, B and C are nodes (host:port). Two devices of user1 listen on A and B, one
// of user2 on A; everything is pushed through C. Prints what each saw, as JSON.
import WebSocket from 'ws';

const [a, b, c] = process.argv.slice(2);
const deadline = setTimeout(() => fail('took longer than 30 s'), 30_000);

function fail(why) {
  console.error(why);
  process.exit(1);
}

function listen(node, user) {
  const socket = new WebSocket(`ws://${node}/`, { headers: { Cookie: `theme=dark; token=${user}` } });
  const device = { socket, messages: [], changed: () => {} };
  socket.on('message', (data, isBinary) => {
    device.messages.push(isBinary ? { binary: data.length } : data.toString());
    device.changed();
  });
  socket.on('error', (error) => fail(`${user} on ${node}: ${error.message}`));
  device.open = new Promise((resolve) => socket.once('open', resolve));
  device.closed = new Promise((resolve) =>
    socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() })),
  );
  device.has = (count) =>
    new Promise((resolve) => {
      device.changed = () => device.messages.length >= count && resolve();
      device.changed();
    });
  return device;
}

async function push(to, data) {
  const response = await fetch(`http://${c}/v1/push`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ to, data }),
  });
  if (response.status !== 202) fail(`push answered ${response.status}: ${await response.text()}`);
  return response.json();
}

async function sessions(user, count) {
  for (;;) {
    const response = await fetch(`http://${c}/v1/channels/user:${user}`);
    const channel = await response.json();
    if (channel.sessions === count) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const first = listen(a, 'user1');
const second = listen(b, 'user1');
const other = listen(a, 'user2');
await Promise.all([first.open, second.open, other.open]);
await Promise.all([sessions('user1', 2), sessions('user2', 1)]);

for (let n = 0; n < 20; n += 1) await push('user:user1', { n, text: 'grüße ☕' });
await Promise.all([first.has(20), second.has(20)]);

// A browser tab is closed; the phone must not notice.
first.socket.close(1000, 'tab closed');
const closed = await first.closed;
await sessions('user1', 1);
for (let n = 20; n < 25; n += 1) await push('user:user1', { n, text: 'still here' });
await push('user:user1', 'the end');
await push('user:user2', 'the end');
await Promise.all([second.has(26), other.has(1)]);

console.log(
  JSON.stringify({ first: first.messages, second: second.messages, other: other.messages, closed }),
);
for (const device of [second, other]) device.socket.terminate();
clearTimeout(deadline);
