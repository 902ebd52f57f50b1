// Dashboards against Grafana's own types: the compiler reads each as a literal
// of the type that Grafana publishes for it, so that an unknown field, a missing
// one or a word that no option knows is an error.
//
// Grafana's types leave open what queries and annotations of a data source hold;
// the end-to-end tests ask Prometheus about these.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';

const here = import.meta.dirname;
const dashboards = `${here}/../../grafana/dashboards`;
const out = `${here}/node_modules/.check`;
const types = '@grafana/schema/dist/esm/raw';
const kinds = { heatmap: 'Heatmap', stat: 'Stat', table: 'Table', timeseries: 'TimeSeries' };

/** A file that compiles if the dashboard is well formed. */
function program(dashboard) {
  const lines = [
    `import type { Dashboard } from '${types}/dashboard/x/Dashboard_types.gen';`,
    ...Object.entries(kinds).map(
      ([kind, name]) => `import type * as ${kind} from '${types}/composable/${kind}/panelcfg/x/${name}PanelCfg_types.gen';`,
    ),
    // JSON has the values of enums, not their names.
    'type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]',
    '  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;',
  ];
  const check = (name, type, value) => lines.push(`export const ${name}: Plain<${type}> = ${JSON.stringify(value, null, 1)};`);
  const annotations = dashboard.annotations.list.map(({ expr, titleFormat, textFormat, tagKeys, step, ...rest }) => rest);
  check('dashboard', 'Dashboard', { ...dashboard, annotations: { list: annotations } });
  for (const panel of dashboard.panels.filter(({ type }) => type !== 'row')) {
    if (!kinds[panel.type]) throw new Error(`${panel.title}: give ${panel.type} a place in this check`);
    check(`options${panel.id}`, `${panel.type}.Options`, panel.options);
    const { custom } = panel.fieldConfig.defaults;
    if (custom) check(`custom${panel.id}`, `${panel.type}.FieldConfig`, custom);
  }
  return `${lines.join('\n')}\n`;
}

function compile(programs) {
  mkdirSync(out, { recursive: true });
  const files = programs.map(([name, text]) => {
    writeFileSync(`${out}/${name}.ts`, text);
    return `${out}/${name}.ts`;
  });
  const flags = '--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022'.split(' ');
  const { status, stdout, stderr } = spawnSync(`${here}/node_modules/.bin/tsc`, [...flags, ...files], { encoding: 'utf8' });
  return { ok: status === 0, said: `${stdout}${stderr}` };
}

const all = readdirSync(dashboards).map((file) => [file.replace('.json', ''), JSON.parse(readFileSync(`${dashboards}/${file}`, 'utf8'))]);
const { ok, said } = compile(all.map(([name, dashboard]) => [name, program(dashboard)]));
console.log(ok ? `${all.length} dashboards are of Grafana's types` : said);

// A check that cannot fail is none.
const spoilt = structuredClone(all[0][1]);
spoilt.panels.find(({ type }) => type === 'stat').options.colorMode = 'lovely';
const noticed = !compile([['spoilt', program(spoilt)]]).ok;
if (!noticed) console.log('a dashboard with an option that does not exist was not noticed');
process.exit(ok && noticed ? 0 : 1);
