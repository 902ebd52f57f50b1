// Builds dist/: ESM and CJS with types by the TypeScript compiler, and one
// minified module for pages without a bundler.
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
rmSync('dist', { recursive: true, force: true });

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
function compile(...flags) {
  execFileSync(process.execPath, [tsc, '--project', 'tsconfig.json', ...flags], { stdio: 'inherit' });
}
compile();
compile('--outDir', 'dist/cjs', '--module', 'commonjs', '--moduleResolution', 'bundler', '--verbatimModuleSyntax', 'false');
// The package is ESM; this folder is not.
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');

await build({
  entryPoints: ['src/index.ts'],
  outfile: 'dist/postrider.min.js',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
});
