/**
 * Where on the device requests went, over time: counts on a grid that is filled while a trace is
 * read, before anybody knows how long or how large it is.
 *
 * Invariants: memory is that of the grid, whatever the trace. When a request is outside, columns or
 * rows are joined in pairs, so the grid covers twice as much; in the end at least half of what is
 * needed is used.
 */

const COLUMNS = 512;
const ROWS = 256;

/** Counts of a picture's cells, row by row from the beginning of the device. */
export interface GridPicture {
  readonly columns: number;
  readonly rows: number;
  /**
   * Writes and write-zeroes that touch the cell; discards, often of a whole device, would hide
   * them.
   */
  readonly writes: readonly number[];
  readonly reads: readonly number[];
  /** Flushes and FUA writes of each column. */
  readonly flushes: readonly number[];
}

export class RequestGrid {
  readonly #writes = new Uint32Array(COLUMNS * ROWS);
  readonly #reads = new Uint32Array(COLUMNS * ROWS);
  readonly #flushes = new Uint32Array(COLUMNS);
  /** Of the unit of `x`, and bytes, that a column and a row represent. */
  #columnSize = 1;
  #rowSize = 512;
  /** Nothing was counted: there is nothing to join. */
  #isEmpty = true;

  /** @param x the horizontal position of the request: a time or a number, from 0. */
  addFlush(x: number): void {
    const column = this.#column(x);
    this.#isEmpty = false;
    this.#flushes[column] = (this.#flushes[column] ?? 0) + 1;
  }

  /**
   * A read, or a write or zero-write; discards are not shown.
   *
   * @param x as above.
   */
  add(isRead: boolean, offset: number, length: number, x: number): void {
    const column = this.#column(x);
    const end = offset + length - 1;
    while (end >= ROWS * this.#rowSize) this.#joinRows();
    this.#isEmpty = false;
    const cells = isRead ? this.#reads : this.#writes;
    const last = Math.floor(end / this.#rowSize);
    for (let row = Math.floor(offset / this.#rowSize); row <= last; row++) {
      const at = row * COLUMNS + column;
      cells[at] = (cells[at] ?? 0) + 1;
    }
  }

  #column(x: number): number {
    while (x >= COLUMNS * this.#columnSize) this.#joinColumns();
    return Math.floor(x / this.#columnSize);
  }

  /**
   * The part up to `width` (of the unit of `x`) and `height` bytes, in so many columns and rows.
   */
  picture(
    extent: { readonly width: number; readonly height: number },
    { columns, rows }: { readonly columns: number; readonly rows: number },
  ): GridPicture {
    const writes = Array.from({ length: columns * rows }, () => 0);
    const reads = Array.from({ length: columns * rows }, () => 0);
    const flushes = Array.from({ length: columns }, () => 0);
    const columnOf = scaled(this.#columnSize / extent.width, columns);
    const rowOf = scaled(this.#rowSize / extent.height, rows);
    for (let column = 0; column < COLUMNS; column++) {
      const x = columnOf(column);
      flushes[x] = (flushes[x] ?? 0) + (this.#flushes[column] ?? 0);
      for (let row = 0; row < ROWS; row++) {
        const from = row * COLUMNS + column;
        const to = rowOf(row) * columns + x;
        writes[to] = (writes[to] ?? 0) + (this.#writes[from] ?? 0);
        reads[to] = (reads[to] ?? 0) + (this.#reads[from] ?? 0);
      }
    }
    return { columns, rows, writes, reads, flushes };
  }

  #joinColumns(): void {
    this.#columnSize *= 2;
    if (this.#isEmpty) return;
    for (const cells of [this.#writes, this.#reads]) {
      for (let row = 0; row < ROWS; row++) {
        joinPairs(cells, { start: row * COLUMNS, step: 1, count: COLUMNS });
      }
    }
    joinPairs(this.#flushes, { start: 0, step: 1, count: COLUMNS });
  }

  #joinRows(): void {
    this.#rowSize *= 2;
    if (this.#isEmpty) return;
    for (const cells of [this.#writes, this.#reads]) {
      for (let column = 0; column < COLUMNS; column++) {
        joinPairs(cells, { start: column, step: COLUMNS, count: ROWS });
      }
    }
  }
}

/** The place of the n-th of the grid's parts, each `share` of the whole, among `count`. */
function scaled(share: number, count: number): (index: number) => number {
  return (index) => Math.min(count - 1, Math.floor(index * share * count));
}

/** Adds up pairs of `count` cells from `start`, `step` apart, into the first half of them. */
function joinPairs(
  cells: Uint32Array,
  { start, step, count }: { readonly start: number; readonly step: number; readonly count: number },
): void {
  for (let index = 0; index < count; index++) {
    const at = start + 2 * index * step;
    cells[start + index * step] = 2 * index < count ? (cells[at] ?? 0) + (cells[at + step] ?? 0) : 0;
  }
}
