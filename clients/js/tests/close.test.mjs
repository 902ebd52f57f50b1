// The copy of the server's table of close codes is the server's table.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { afterClose, CLOSE_CODES } from 'postrider';

const source = readFileSync(new URL('../../../src/protocol/close.rs', import.meta.url), 'utf8');

test('the codes are those of the server', () => {
  const rows = source.matchAll(/^\s*[A-Z_]+ = (\d{4}), "(\w+)";$/gm);
  const theirs = Object.fromEntries([...rows].map(([, code, label]) => [label, Number(code)]));
  assert.ok(Object.keys(theirs).length > 10, 'the table was found');
  assert.deepEqual({ ...CLOSE_CODES }, theirs);
});

test('every row of the server’s table of ranges is obeyed', () => {
  const meanings = [
    [/^stay away until you have a new token/, 'token'],
    [/^stay away: /, 'stop'],
    [/^reconnect, backing off/, 'backoff'],
    [/^reconnect now/, 'now'],
  ];
  const rows = [...source.matchAll(/^\/\/! \| (\d[\d–, ]+) \| (.+) \|$/gm)];
  assert.equal(rows.length, 6, 'the table was found');
  for (const [, codes, text] of rows) {
    const expected = meanings.find(([pattern]) => pattern.test(text))?.[1];
    assert.ok(expected, `"${text}" has a meaning`);
    for (const range of codes.split(', ')) {
      const [first, last = first] = range.split('–').map(Number);
      for (let code = first; code <= last; code += 1) assert.equal(afterClose(code), expected, `${code}`);
    }
  }
});

test('what no table knows is tried again, ever more slowly', () => {
  for (const code of [1000, 1005, 1006, 1014, 1015, 3000, 4300, 4500, 4999]) {
    assert.equal(afterClose(code), 'backoff', `${code}`);
  }
});
