// In a browser drop the first two lines; Node.js has WebSocket from version 22 on, before that: npm install ws.
const { POSTRIDER_URL = 'http://127.0.0.1:8080', POSTRIDER_TOKEN = 'alice' } = process.env;
const WebSocket = globalThis.WebSocket ?? (await import('ws')).default;

const url = `${POSTRIDER_URL.replace(/^http/, 'ws')}/v1/ws?token=${POSTRIDER_TOKEN}&device=laptop`;
const socket = new WebSocket(url, ['postrider.v1+json']);
socket.onmessage = ({ data }) => {
  const frame = JSON.parse(data);
  if (frame.type === 'message') {
    console.log(JSON.stringify(frame));
    socket.send(JSON.stringify({ type: 'ack', positions: { [frame.channel]: frame.pos } }));
  }
};
