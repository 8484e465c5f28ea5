/**
 * A server's notes about its clients, in bounded number: a flood of hostile connections fills no
 * disk with notes.
 *
 * Invariants: of each kind the first notes are said and the rest only counted; the kinds are few;
 * what was counted is said at the end.
 */

/** Kinds of notes, with the words for those that were only counted. */
const KINDS = {
  protocol: 'connections that broke the protocol',
  late: 'connections that were too slow',
  displaced: 'connections that were closed to admit a new one',
  stalled: 'connections that were closed to free memory for others',
  refused: 'clients that were refused because the export had too many',
  failed: 'requests that failed',
} as const;
export type NoteKind = keyof typeof KINDS;

/** Notes of one kind that are said. */
export const NOTES_OF_A_KIND = 20;

export class ClientNotes {
  readonly #say: (text: string) => void;
  readonly #counts = new Map<NoteKind, number>();

  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  note(kind: NoteKind, text: string): void {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count > NOTES_OF_A_KIND) return;
    this.#say(text);
    if (count === NOTES_OF_A_KIND) {
      this.#say(`further ${KINDS[kind]} are only counted until the server exits`);
    }
  }

  /** Says how many were not said. */
  finish(): void {
    for (const [kind, count] of this.#counts) {
      const left = count - NOTES_OF_A_KIND;
      if (left > 0) this.#say(`further ${KINDS[kind]}: ${left.toLocaleString('en')}`);
    }
    this.#counts.clear();
  }
}
