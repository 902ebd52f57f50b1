// The little that browsers, workers, Node.js, Deno and Bun have in common. No
// type library is assumed, so that applications compile without "DOM".

/** The part of a WebSocket that is used. Every runtime's own satisfies it, and so does the package `ws`. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** What makes WebSockets. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

export type Timer = unknown;

interface Runtime {
  setTimeout(run: () => void, delayMs: number): Timer;
  clearTimeout(timer: Timer): void;
  queueMicrotask(run: () => void): void;
  URL: new (url: string, base?: string) => ParsedUrl;
  AbortController: new () => { readonly signal: unknown; abort(): void };
  TextDecoder: new () => { decode(bytes: unknown, options: { stream: true }): string };
  WebSocket?: WebSocketConstructor;
  fetch?: (url: string, init: object) => Promise<Answer>;
  location?: { href: string };
  document?: EventSource & { visibilityState: string };
  addEventListener?: EventSource['addEventListener'];
  removeEventListener?: EventSource['removeEventListener'];
}

interface EventSource {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}

export interface ParsedUrl {
  protocol: string;
  pathname: string;
  hash: string;
  readonly href: string;
  readonly searchParams: { set(name: string, value: string): void; append(name: string, value: string): void; delete(name: string): void };
}

/** The part of a `fetch` response that is used. */
export interface Answer {
  readonly ok: boolean;
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: { getReader(): { read(): Promise<{ done: boolean; value?: unknown }> } } | null;
  text(): Promise<string>;
}

export const runtime = globalThis as unknown as Runtime;
