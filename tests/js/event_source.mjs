// A browser's EventSource in Node.js: the npm package eventsource, and nothing of ours.
//
//   node event_source.mjs URL COUNT
//
// Prints each event as a line of JSON, until COUNT messages have come.
import { EventSource } from 'eventsource';

const [url, count] = process.argv.slice(2);
const source = new EventSource(url);
const say = (line) => console.log(JSON.stringify(line));
let messages = 0;

source.onopen = () => say({ open: true });
source.onerror = ({ code, message }) => {
  say({ error: code ?? null, message });
  // It has given up: a status, which no reconnect can help.
  if (source.readyState === EventSource.CLOSED) process.exit(0);
};
for (const type of ['hello', 'message', 'gap', 'drain', 'close']) {
  source.addEventListener(type, ({ data, lastEventId }) => {
    say({ type, id: lastEventId, data: JSON.parse(data) });
    messages += type === 'message' ? 1 : 0;
    if (messages === Number(count)) process.exit(0);
  });
}
