// Light or dark: as the system says until the reader says otherwise.
import { h, icon } from './dom.js';

const KEY = 'postrider.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const SUN = 'M12 4V2m0 20v-2m8-8h2M2 12h2m13.660-5.660 1.410-1.410M4.930 19.070l1.410-1.410m0-11.320L4.930 4.930m14.140 14.140-1.410-1.410M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0Z';
const MOON = 'M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500Z';

function stored() {
  try { return localStorage.getItem(KEY); } catch { return null; }
}

const chosen = stored();
if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.theme = chosen;

const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';

/** Puts the switch into the page's bar. */
export function themeSwitch(place) {
  const button = h('button', { class: 'icon quiet', type: 'button' });
  const show = () => {
    button.setAttribute('aria-label', isDark() ? 'Switch to light colours' : 'Switch to dark colours');
    button.replaceChildren(icon(isDark() ? SUN : MOON));
  };
  button.addEventListener('click', () => {
    const next = isDark() ? 'light' : 'dark';
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem(KEY, next); } catch { /* Private windows forget it: so be it. */ }
    show();
  });
  system.addEventListener('change', show);
  show();
  place.append(button);
}
