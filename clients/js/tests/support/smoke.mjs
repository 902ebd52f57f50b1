// Two messages over each transport, in whatever runtime this is run by: RUNTIME smoke.mjs URL
import { connect } from '../../dist/esm/index.js';

const url = (globalThis.Deno?.args ?? globalThis.process.argv.slice(2))[0];
const push = (n) => fetch(`${url}/v1/push`, {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ to: 'user:smoke', data: n }),
});

const seen = {};
for (const transport of ['websocket', 'sse']) {
  const connection = connect(url, { transport, device: `on-${transport}`, from: 'now', getToken: () => 'smoke' });
  const numbers = (seen[transport] = []);
  let done = false;
  await new Promise((resolve, reject) => {
    connection.on('state', ({ state, code, reason }) => {
      if (state === 'disconnected' && !done) reject(new Error(`${transport}: ${code} ${reason}`));
      if (state === 'connected') void push(1).then(() => push(2));
    });
    connection.on('message', ({ data }) => numbers.push(data) === 2 && resolve((done = true)));
  });
  await connection.close();
}
console.log(JSON.stringify(seen));
