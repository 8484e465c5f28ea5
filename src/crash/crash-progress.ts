/**
 * The cells that a run of `crash` has explored, as a file, `qcow2-bench/crash-progress@1`: a run
 * that was broken off goes on behind them.
 *
 * Invariant: what a cell's findings depend on is in its key or in `options`.
 */

import { z } from 'zod';

import { Qcow2BenchError } from '../core/error.ts';
import { readCheckedJson } from '../result/checked-json.ts';
import { cellSchema } from '../result/schema.ts';
import { crashCaseSchema } from './crash-case.ts';
import type { Exploration, HazardFound } from './explore.ts';
import type { CellFindings, FoundExample } from './explore-cell.ts';
import { HAZARDS, type Hazard } from './hazards.ts';
import { STEP_KINDS } from './steps.ts';

const CRASH_PROGRESS_SCHEMA = 'qcow2-bench/crash-progress@1';
const FILE_SIZE_MAX = 256 * 1024 * 1024;

/** What is reported of an exploration: without the states themselves. */
export type ExplorationFigures = Omit<Exploration, 'bad' | 'hazards'> & {
  readonly hazards: ReadonlyMap<Hazard, Pick<HazardFound, 'states'>>;
};

/** As `CellFindings`, of a cell that may have been explored in an earlier run. */
export interface CellFigures {
  readonly exploration: ExplorationFigures;
  readonly faults?: CellFindings['faults'];
  readonly examples: readonly FoundExample[];
  readonly seconds: number;
}

const count = z.int().min(0);
/** A number of states may be larger than a number. */
const states = z
  .string()
  .regex(/^\d+$/)
  .transform((text) => BigInt(text));
const space = z.strictObject({ whole: states, all: states, epochs: count });

const explorationSchema = z.strictObject({
  space,
  tried: count,
  distinct: count,
  isExhausted: z.boolean(),
  triedWhole: count,
  inspected: count,
  later: z.strictObject({ recoveries: count, space, tried: count, isExhausted: z.boolean() }),
  askedSecond: count,
  badStates: count,
  losses: z.strictObject({ states: count, bytesMax: count, bytesSum: count, unreadable: count }),
  hazards: z.array(z.strictObject({ hazard: z.enum(HAZARDS), states: count })),
  inDiscard: count,
  repairs: z.strictObject({ states: count, bytesMax: count }),
});

const progressSchema = z.strictObject({
  schema: z.literal(CRASH_PROGRESS_SCHEMA),
  /** In words. */
  options: z.string().max(1000),
  cells: z
    .array(
      z.strictObject({
        cell: cellSchema,
        steps: z.array(z.enum(STEP_KINDS)),
        /** Their digest. */
        requests: z.string().max(64),
        seconds: z.number().min(0),
        exploration: explorationSchema,
        faults: z
          .strictObject({ tried: count, reported: count, states: count, violations: count })
          .optional(),
        examples: z.array(
          z.strictObject({ what: z.string().max(200), isHazard: z.boolean(), file: crashCaseSchema }),
        ),
      }),
    )
    .max(1_000_000),
});
type StoredCell = z.input<typeof progressSchema>['cells'][number];

/** By which a cell is found again: what was explored. */
export interface CellIdentity {
  readonly cell: StoredCell['cell'];
  readonly steps: readonly StoredCell['steps'][number][];
  /** Digest of the requests. */
  readonly requests: string;
}

/** A cell as the file has it. */
export function storedCell(
  { cell, steps, requests }: CellIdentity,
  { exploration, faults, examples, seconds }: CellFigures,
): StoredCell {
  const { space: all, later, hazards } = exploration;
  return {
    cell,
    steps: [...steps],
    requests,
    seconds,
    exploration: {
      space: storedSpace(all),
      tried: exploration.tried,
      distinct: exploration.distinct,
      isExhausted: exploration.isExhausted,
      triedWhole: exploration.triedWhole,
      inspected: exploration.inspected,
      later: { ...later, space: storedSpace(later.space) },
      askedSecond: exploration.askedSecond,
      badStates: exploration.badStates,
      losses: exploration.losses,
      hazards: Array.from(hazards, ([hazard, found]) => ({ hazard, states: found.states })),
      inDiscard: exploration.inDiscard,
      repairs: exploration.repairs,
    },
    ...(faults === undefined ? {} : { faults: { ...faults } }),
    examples: [...examples],
  };
}

function storedSpace({ whole, all, epochs }: Exploration['space']): StoredCell['exploration']['space'] {
  return { whole: String(whole), all: String(all), epochs };
}

/** The text of the file. */
export function progressText(options: string, cells: readonly StoredCell[]): string {
  return `${JSON.stringify({ schema: CRASH_PROGRESS_SCHEMA, options, cells })}\n`;
}

export function cellKey({ cell, steps, requests }: CellIdentity): string {
  return JSON.stringify([cellSchema.parse(cell), steps, requests]);
}

export interface KnownCell {
  readonly stored: StoredCell;
  readonly figures: CellFigures;
}

/**
 * The cells of a file, by `cellKey`.
 *
 * @param options in words, of this run
 * @throws Qcow2BenchError `crash-progress-other-options`, or as `readCheckedJson`
 */
export function readProgress(path: string, options: string): ReadonlyMap<string, KnownCell> {
  const file = readCheckedJson(path, {
    schema: progressSchema,
    schemaName: CRASH_PROGRESS_SCHEMA,
    kind: 'crash-progress',
    sizeMax: FILE_SIZE_MAX,
  });
  if (file.options !== options) {
    throw new Qcow2BenchError(
      'crash-progress-other-options',
      `the file is of a run with other options (${file.options}; now ${options}): use the same options, or another file`,
      { path },
    );
  }
  return new Map(
    file.cells.map(({ cell, steps, requests, seconds, exploration, faults, examples }) => {
      const hazards = new Map(
        exploration.hazards.map(({ hazard, states: found }) => [hazard, { states: found }]),
      );
      const figures = { seconds, faults, examples, exploration: { ...exploration, hazards } };
      const identity = { cell, steps, requests };
      return [cellKey(identity), { stored: storedCell(identity, figures), figures }];
    }),
  );
}
