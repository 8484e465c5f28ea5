/**
 * Says where a text stops being JSON. The engine's own parser names the place of only some
 * mistakes.
 *
 * Invariants: a position is that of the first token that is invalid at its position (of a string
 * that is broken inside: where it begins). No recursion, so no nesting is too deep for it.
 */

export interface JsonFault {
  /** Both from 1. */
  readonly line: number;
  readonly column: number;
  /** What may be there, and what does. */
  readonly expected: string;
  readonly found: string;
}

/** What the grammar (RFC 8259) allows next. */
type Expectation =
  'value' | 'value or ]' | 'key' | 'key or }' | 'colon' | 'comma or }' | 'comma or ]' | 'end';

const EXPECTED_WORDS: Readonly<Record<Expectation, string>> = {
  value: 'a value',
  'value or ]': "a value or ']'",
  key: 'a field name in double quotes',
  'key or }': "a field name in double quotes or '}'",
  colon: "':'",
  'comma or }': "',' or '}'",
  'comma or ]': "',' or ']'",
  end: 'the end of the file',
};

const SPACE = /[ \t\r\n]*/y;
/** A string, a number, a literal, or a mark, in groups of that order. */
const TOKEN =
  /("(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null)|([[\]{}:,])/y;
const EXCERPT_LENGTH = 20;

/** The first fault of `text`, or `undefined` if it is JSON. */
export function findJsonFault(text: string): JsonFault | undefined {
  /** The brackets that are open, outermost first. */
  const open: ('{' | '[')[] = [];
  let expected: Expectation = 'value';
  for (let position = 0; ;) {
    SPACE.lastIndex = position;
    position += SPACE.exec(text)?.[0].length ?? 0;
    if (position === text.length && expected === 'end') return undefined;
    TOKEN.lastIndex = position;
    const match: RegExpExecArray | null = TOKEN.exec(text);
    const next: Expectation | undefined = match === null ? undefined : follow(expected, match, open);
    if (match === null || next === undefined) return faultAt(text, position, expected);
    position += match[0].length;
    expected = next;
  }
}

/** What may follow the token, or `undefined` if it may not be here. Keeps `open` up to date. */
function follow(expected: Expectation, token: RegExpExecArray, open: ('{' | '[')[]): Expectation | undefined {
  const [text, string] = token;
  switch (expected) {
    case 'value':
    case 'value or ]':
      if (text === '{' || text === '[') {
        open.push(text);
        return text === '{' ? 'key or }' : 'value or ]';
      }
      if (text === ']' && expected === 'value or ]') return close(open);
      return '}]:,'.includes(text) ? undefined : afterValue(open);
    case 'key':
    case 'key or }':
      if (text === '}' && expected === 'key or }') return close(open);
      return string === undefined ? undefined : 'colon';
    case 'colon':
      return text === ':' ? 'value' : undefined;
    case 'comma or }':
      if (text === '}') return close(open);
      return text === ',' ? 'key' : undefined;
    case 'comma or ]':
      if (text === ']') return close(open);
      return text === ',' ? 'value' : undefined;
    case 'end':
      return undefined;
  }
}

function close(open: ('{' | '[')[]): Expectation {
  open.pop();
  return afterValue(open);
}

function afterValue(open: readonly ('{' | '[')[]): Expectation {
  const innermost = open.at(-1);
  if (innermost === undefined) return 'end';
  return innermost === '{' ? 'comma or }' : 'comma or ]';
}

function faultAt(text: string, position: number, expected: Expectation): JsonFault {
  const before = text.slice(0, position);
  const rest = text.slice(position);
  const word = /^"[^\n]*|^[\w.+-]+|^[^]/.exec(rest)?.[0] ?? '';
  return {
    line: before.split('\n').length,
    column: before.length - before.lastIndexOf('\n'),
    expected: EXPECTED_WORDS[expected],
    found: rest === '' ? 'the end of the file' : `'${word.slice(0, EXCERPT_LENGTH)}'`,
  };
}
