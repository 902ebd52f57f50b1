// Numbers, durations and times as people read them.

export function count(value) {
  if (value < 10_000) return Math.round(value).toLocaleString('en');
  if (value < 1e6) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)} k`;
  return `${(value / 1e6).toFixed(1)} M`;
}

export const rate = (value) => (value > 0 && value < 10 ? value.toFixed(1) : count(value));

export function duration(seconds) {
  if (seconds === undefined || Number.isNaN(seconds)) return '–';
  const ms = seconds * 1_000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

export function bytes(value) {
  if (value < 1_024) return `${value} B`;
  if (value < 1_048_576) return `${(value / 1_024).toFixed(1)} KiB`;
  return `${(value / 1_048_576).toFixed(1)} MiB`;
}

export const clock = (at) => new Date(at).toLocaleTimeString('en-GB');
export const shortId = (id) => `…${id.slice(-6)}`;
export const seqOf = (pos) => (pos ? Number(pos.split('.')[1]) : 0);

/** The value below which `share` of a histogram's observations lie. */
export function quantile(histogram, share) {
  const { bounds, counts, count: all } = histogram;
  if (!all) return undefined;
  const wanted = share * all;
  const at = counts.findIndex((seen) => seen >= wanted);
  if (at < 0) return bounds[bounds.length - 1];
  const [below, lower] = at ? [counts[at - 1], bounds[at - 1]] : [0, 0];
  return lower + (bounds[at] - lower) * ((wanted - below) / Math.max(counts[at] - below, 1e-9));
}

/** What was observed between two readings of a histogram. */
export function between(earlier, later) {
  return {
    bounds: later.bounds,
    counts: later.counts.map((seen, at) => seen - (earlier.counts[at] ?? 0)),
    count: later.count - earlier.count,
  };
}
