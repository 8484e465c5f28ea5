/**
 * Which volume of a trace of several is read: the one that was asked for, or the only one there is.
 *
 * Invariants:
 * - Requests of two devices are never mixed: at the second one that shows up unasked, no more
 *   requests are taken, and what else there is gets listed, over a bounded stretch of the file.
 * - A volume met again costs a comparison or a look-up in a table, and makes no string.
 */

/** Volumes distinguished; public traces have some thousands. */
const VOLUMES_MAX = 65_536;
/** Lines or records looked at for further volumes after the second one has shown up. */
const LISTING_MAX = 1_000_000;

export class VolumeFilter {
  /** Requests of other volumes that were left out. */
  otherCount = 0;

  readonly #wanted: string | undefined;
  #only: string | undefined;
  #isSeveral = false;
  #listed = 0;
  readonly #names = new Set<string>();
  readonly #byNumber = new Map<number, boolean>();
  #lastNumber = -1;
  #lastBytes: Uint8Array = new Uint8Array(0);
  #lastIsTaken = false;

  constructor(wanted: string | undefined) {
    this.#wanted = wanted;
  }

  /** Two volumes or more were met, and none was asked for. */
  get isSeveral(): boolean {
    return this.#isSeveral;
  }

  /** Enough was looked at to list them. */
  get isListed(): boolean {
    return this.#listed >= LISTING_MAX;
  }

  /** The volume that was asked for did not show up. */
  get isMissing(): boolean {
    return this.#wanted !== undefined && !this.#names.has(this.#wanted);
  }

  get wanted(): string | undefined {
    return this.#wanted;
  }

  /** The volume whose requests are taken, once it is known. */
  get taken(): string | undefined {
    return this.#wanted ?? this.#only;
  }

  /** The names met so far, numbers in their order. */
  get names(): readonly string[] {
    return [...this.#names].toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  }

  /** Whether requests of the volume with this number are taken. `nameOf` is asked once a number. */
  takesNumber(volume: number, nameOf: (volume: number) => string = String): boolean {
    if (volume === this.#lastNumber && !this.#isSeveral) return this.#count(this.#lastIsTaken);
    let isTaken = this.#byNumber.get(volume);
    if (isTaken === undefined) {
      isTaken = this.#meet(nameOf(volume));
      if (this.#byNumber.size < VOLUMES_MAX) this.#byNumber.set(volume, isTaken);
    }
    this.#lastNumber = volume;
    this.#lastIsTaken = isTaken;
    return this.#count(isTaken);
  }

  /**
   * Whether requests of the volume that `bytes[start … end)` name are taken. `nameOf` is asked once
   * a name.
   */
  takesName(
    bytes: Uint8Array,
    start: number,
    end: number,
    nameOf: (text: string) => string = asItStands,
  ): boolean {
    if (!equalsAt(bytes, start, end, this.#lastBytes) || this.#isSeveral) {
      this.#lastBytes = bytes.slice(start, end);
      this.#lastIsTaken = this.#meet(nameOf(Buffer.from(this.#lastBytes).toString('utf8')));
    }
    return this.#count(this.#lastIsTaken);
  }

  #meet(name: string): boolean {
    if (this.#names.size < VOLUMES_MAX) this.#names.add(name);
    if (this.#wanted !== undefined) return name === this.#wanted;
    this.#only ??= name;
    if (name !== this.#only) this.#isSeveral = true;
    return !this.#isSeveral;
  }

  #count(isTaken: boolean): boolean {
    if (this.#isSeveral) {
      this.#listed++;
      return false;
    }
    if (!isTaken) this.otherCount++;
    return isTaken;
  }
}

function asItStands(text: string): string {
  return text;
}

function equalsAt(bytes: Uint8Array, start: number, end: number, wanted: Uint8Array): boolean {
  if (end - start !== wanted.length) return false;
  for (let index = 0; index < wanted.length; index++) {
    if (bytes[start + index] !== wanted[index]) return false;
  }
  return true;
}
