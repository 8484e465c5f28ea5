import { execFileSync } from 'node:child_process';

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { visibleLines, visibleText, withVisibleText } from '../../src/core/visible-text.ts';

test.for([
  ['plain ü 漢字 😀', 'plain ü 漢字 😀'],
  ['\u001b[31mred\u0007', '\\x1b[31mred\\x07'],
  ['a\nb\tc\r', 'a\\x0ab\\x09c\\x0d'],
  ['\u007f\u0085\u009b', '\\u007f\\u0085\\u009b'],
  ['\u202egpj.exe\u2066', '\\u202egpj.exe\\u2066'],
  ['a\u2028b\u2029', 'a\\u2028b\\u2029'],
  ['\ufeffmark', '\\ufeffmark'],
  ['byte \udcff\udc80', 'byte \\xff\\x80'],
  ['\ud800', '\\ud800'],
  ['\u{e0041}', '\\udb40\\udc41'],
] as const)('%j is shown as %s', ([text, shown]) => {
  expect(visibleText(text)).toBe(shown);
});

test('lines keep their line feeds and nothing else that moves a cursor', () => {
  expect(visibleLines('a\n\u001bb\r\n')).toBe('a\n\\x1bb\\x0d\n');
});

test('JSON is the same value after it was made visible', () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: 'binary' }), (json) => {
      const shown = visibleLines(json);
      expect(JSON.parse(shown)).toEqual(JSON.parse(json));
      expect(shown).not.toMatch(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}\p{Cs}]/u);
    }),
    { verbose: true },
  );
});

test('all strings of a value are made visible, those of keys too', () => {
  expect(withVisibleText({ 'a\u0007': ['\u001b', { b: '\u202e' }], n: 1, none: undefined })).toEqual({
    'a\\x07': ['\\x1b', { b: '\\u202e' }],
    n: 1,
    none: undefined,
  });
});

test('the shown text is what a terminal prints as it is', () => {
  // `cat -v` marks every byte that is no printable character.
  const shown = visibleText(String.fromCharCode(...Array.from({ length: 128 }, (_, code) => code)));
  expect(execFileSync('cat', ['-v'], { input: shown, encoding: 'utf8' })).toBe(shown);
});
