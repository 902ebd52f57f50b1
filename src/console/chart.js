// A line of the last minute, drawn without a library.
import { svg } from './dom.js';

const WIDTH = 240;
const HEIGHT = 44;

/** Draws `values` (undefined: not known) into a fixed place, so that nothing jumps. */
export function sparkline(place, values) {
  const known = values.filter((value) => value !== undefined);
  const most = Math.max(...known, 1e-9);
  const step = WIDTH / Math.max(values.length - 1, 1);
  const points = values
    .map((value, at) => (value === undefined ? null : [at * step, HEIGHT - 3 - (value / most) * (HEIGHT - 8)]))
    .filter(Boolean)
    .map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
  const line = points.length > 1 ? `M${points.join('L')}` : `M0 ${HEIGHT - 3}H${WIDTH}`;
  const first = points.length > 1 ? points[0].split(' ')[0] : '0';
  const area = `${line}L${WIDTH} ${HEIGHT}L${first} ${HEIGHT}Z`;
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'spark' };
  place.replaceChildren(svg('svg', box, svg('path', { d: area, class: 'area' }), svg('path', { d: line, class: known.some((value) => value > 0) ? 'line' : 'line idle' })));
}
