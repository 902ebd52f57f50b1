// In a browser drop the first two lines; for Node.js: npm install eventsource.
const { POSTRIDER_URL = 'http://127.0.0.1:8080', POSTRIDER_TOKEN = 'alice' } = process.env;
const EventSource = globalThis.EventSource ?? (await import('eventsource')).EventSource;

const events = new EventSource(`${POSTRIDER_URL}/v1/events?token=${POSTRIDER_TOKEN}&device=laptop`);
// Reconnects by itself and goes on behind the last event it had.
events.onmessage = ({ data }) => console.log(data);
