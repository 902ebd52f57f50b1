// A page has no types of Node.js.
import { connect, webStorage } from 'postrider';

connect('/v1/ws', { WebSocket, storage: webStorage('tab', sessionStorage), getToken: async () => (await fetch('/token')).text() });
connect(new URL('/v1/ws', location.href), { WebSocket: window.WebSocket });
