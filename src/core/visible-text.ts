/**
 * The one escape for foreign text (names, paths, messages of parsers) on its way to a terminal or a
 * page.
 *
 * Invariants: what comes out moves no cursor, rings no bell, reorders no text and begins no line.
 * The escapes are those of JSON for every character that `JSON.stringify` leaves as it is, so that
 * JSON passes through with the same value. A byte of a name that is no UTF-8 (a lone surrogate
 * U+DC80 to U+DCFF in a string) is shown as `\xNN`.
 */

/**
 * Control characters (C0, DEL, C1), bidirectional controls, line and paragraph separators, lone
 * surrogates, and characters that are drawn as nothing: byte order marks, interlinear annotations,
 * tags.
 */
const UNSAFE = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}\p{Cs}\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const LINE_FEED = '\n';

/** A text of one line. */
export function visibleText(text: string): string {
  return text.replaceAll(UNSAFE, escaped);
}

/** A text whose line feeds are its layout. */
export function visibleLines(text: string): string {
  return text.replaceAll(UNSAFE, (character) => (character === LINE_FEED ? character : escaped(character)));
}

/** Fields of results whose text is laid out in lines. */
const LAID_OUT: readonly string[] = ['difference'];

/** The value with every string in it made visible, keys included. */
export function withVisibleText<T>(value: T): T {
  // The shape stays; only characters of strings change.
  return mapped(value) as T;
}

function mapped(value: unknown, field?: string): unknown {
  if (typeof value === 'string') {
    return field === undefined || !LAID_OUT.includes(field) ? visibleText(value) : visibleLines(value);
  }
  if (Array.isArray(value)) return value.map((member) => mapped(member));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [visibleText(key), mapped(member, key)]),
  );
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) return `\\x${code.toString(16).padStart(2, '0')}`;
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
  return Array.from({ length: character.length }, (_, index) => unit(character.charCodeAt(index))).join('');
}

/** One UTF-16 code unit as JSON writes it. */
function unit(code: number): string {
  return `\\u${code.toString(16).padStart(4, '0')}`;
}
