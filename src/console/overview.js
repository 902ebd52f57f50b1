// All nodes, and what they do right now.
import { get } from './api.js';
import { sparkline } from './chart.js';
import { h, say } from './dom.js';
import { between, bytes, count, duration, quantile, rate } from './numbers.js';

const EVERY_MS = 1_000;
/** A minute. */
const POINTS = 60;
const LATENCY_OVER_MS = 15_000;
/** A beat comes every second; two late ones are worth a colour. */
const BEAT_LATE_MS = 2_500;

/** Readings by node: behind a load balancer each answer may come from another one. */
class Readings {
  constructor() {
    this.nodes = new Map();
  }

  take(stats) {
    const now = Date.parse(stats.at);
    const list = this.nodes.get(stats.node) ?? [];
    list.push({ at: now, stats });
    while (list.length > 2 && now - list[1].at > LATENCY_OVER_MS) list.shift();
    this.nodes.set(stats.node, list);
    for (const [node, readings] of this.nodes) {
      if (Date.now() - readings.at(-1).at > LATENCY_OVER_MS && node !== stats.node) this.nodes.delete(node);
    }
  }

  /** In one second, over all nodes that answered of late; undefined while there is one reading. */
  rate(name) {
    let sum;
    for (const list of this.nodes.values()) {
      if (list.length < 2) continue;
      const [earlier, later] = [list[Math.max(0, list.length - 3)], list.at(-1)];
      const seconds = (later.at - earlier.at) / 1_000;
      if (seconds > 0) sum = (sum ?? 0) + (later.stats.totals[name] - earlier.stats.totals[name]) / seconds;
    }
    return sum;
  }

  latency(name) {
    const parts = [...this.nodes.values()].filter((list) => list.length > 1)
      .map((list) => between(list[0].stats.latencies[name], list.at(-1).stats.latencies[name]));
    if (parts.length === 0) return undefined;
    return parts.reduce((all, one) => ({ bounds: all.bounds, count: all.count + one.count, counts: all.counts.map((seen, at) => seen + one.counts[at]) }));
  }
}

function figure(title, under) {
  const parts = { value: h('div', { class: 'value' }, '–'), under: h('div', { class: 'under' }, under), place: h('div', { class: 'place' }), points: [] };
  parts.card = h('section', { class: 'card figure' }, h('h2', {}, title), parts.value, parts.under, parts.place);
  sparkline(parts.place, []);
  return parts;
}

function show(parts, value, text, unit, under) {
  const shown = value === undefined ? '–' : text;
  parts.value.replaceChildren(shown, unit && value !== undefined ? h('small', {}, unit) : '');
  if (under !== undefined) say(parts.under, under);
  parts.points.push(value);
  if (parts.points.length > POINTS) parts.points.shift();
  sparkline(parts.place, [...Array(POINTS - parts.points.length).fill(undefined), ...parts.points]);
}

function nodeCard(node, answering) {
  const late = node.heartbeat_age_ms > BEAT_LATE_MS;
  const [kind, word] = node.draining ? ['warn', 'draining'] : late ? ['bad', 'late'] : ['good', 'live'];
  const fact = (name, value) => h('div', {}, h('dt', {}, name), h('dd', {}, value));
  const { stream } = node;
  const asked = (value) => (stream ? value(stream) : '–');
  return h('article', { class: 'card node', 'aria-label': `Node ${node.address}` },
    h('header', {}, h('h3', { class: 'mono' }, node.address), h('span', { class: `tag ${kind}` }, word)),
    h('div', { class: 'id mono' }, node.id),
    h('dl', { class: 'facts' },
      fact('Sessions', count(node.sessions)), fact('Heartbeat', `${(node.heartbeat_age_ms / 1_000).toFixed(1)} s ago`), fact('Up', duration((Date.now() - Date.parse(node.started_at)) / 1_000)),
      fact('Stream', asked((stream) => count(stream.length))), fact('Lag', asked((stream) => count(stream.lag))), fact('Pending', asked((stream) => stream.pending ? `${count(stream.pending)} (${duration(stream.oldest_pending_ms / 1_000)})` : '0')),
      fact('Version', node.version), node.id === answering ? fact('Answers', 'this page') : ''));
}

export function overviewView(place, app) {
  const readings = new Readings();
  const figures = {
    accepted: figure('Accepted', 'pushes a second'), written: figure('Delivered', 'messages written a second'),
    sessions: figure('Sessions', 'open now'), latency: figure('Accept to socket', 'median; 99 of 100 within –'),
  };
  const nodes = h('div', { class: 'nodes', 'aria-busy': 'true' }, h('div', { class: 'card empty' }, h('p', {}, 'Asking for the nodes…')));
  const tally = h('dl', { class: 'tally' });
  const counter = {};
  for (const [name, text] of [['refused', 'Refused'], ['slow_closes', 'Closed as slow'], ['gaps', 'Gaps told'], ['duplicates', 'Duplicates dropped'], ['rerouted', 'Routed again'], ['reclaims', 'Streams inherited'], ['store_errors', 'Store errors'], ['outbox', 'In outboxes']]) {
    counter[name] = h('dd', {}, '–');
    tally.append(h('div', {}, h('dt', {}, text), counter[name]));
  }
  const summary = h('span', { class: 'dim', role: 'status' }, '');
  const which = h('span', { class: 'dim small' }, '');
  place.append(
    h('div', { class: 'title' }, h('h1', {}, 'Overview'), summary),
    h('div', { class: 'figures' }, Object.values(figures).map((one) => one.card)),
    h('h2', { class: 'section' }, 'Nodes'), nodes,
    h('div', { class: 'title section' }, h('h2', {}, 'Since start'), which), tally);

  const render = (stats, list) => {
    const accepted = readings.rate('accepted');
    const written = readings.rate('written');
    show(figures.accepted, accepted, rate(accepted ?? 0), '/s');
    show(figures.written, written, rate(written ?? 0), '/s');
    const sessions = list.reduce((sum, node) => sum + node.sessions, 0);
    show(figures.sessions, sessions, count(sessions), '', list.length === 1 ? 'on one node' : `on ${list.length} nodes`);
    const latency = readings.latency('accept_to_write');
    const median = latency && quantile(latency, 0.5);
    show(figures.latency, median, duration(median), '', median === undefined ? 'nothing delivered in the last 15 s' : `median; 99 of 100 within ${duration(quantile(latency, 0.99))}`);
    say(summary, list.length === 1 ? '1 node is live' : `${list.length} nodes are live`);
    nodes.replaceChildren(...list.map((node) => nodeCard(node, stats.node)));
    nodes.removeAttribute('aria-busy');
    for (const [name, cell] of Object.entries(counter)) say(cell, name === 'outbox' ? bytes(stats.outbox_bytes) : count(stats.totals[name]));
    say(which, readings.nodes.size > 1 ? `the node that answered last, …${stats.node.slice(-6)}` : 'this node');
  };

  let timer;
  let over = false;
  const tick = async () => {
    try {
      const [stats, { nodes: list }] = await Promise.all([get('/v1/stats'), get('/v1/nodes')]);
      if (over) return;
      app.stats = stats;
      readings.take(stats);
      app.trouble(undefined);
      place.classList.remove('stale');
      render(stats, list);
    } catch (error) {
      if (over) return;
      place.classList.add('stale');
      app.trouble(error);
    }
    if (!over) timer = setTimeout(tick, document.hidden ? EVERY_MS * 5 : EVERY_MS);
  };
  tick();
  return () => {
    over = true;
    clearTimeout(timer);
    place.classList.remove('stale');
  };
}
