/**
 * The schema of study files, `qcow2-bench/study@1`: a question, the cells that answer it, and the
 * sentences that are said of them.
 *
 * Invariants:
 * - Strict: an unknown field, axis, figure or placeholder is an error.
 * - `axes` and `fixed` name options of `run` with values as the command line takes them; the command
 *   line reads them, so that a study can hold whatever a run can.
 */

import { z } from 'zod';

import { AXIS_NAMES } from './axes.ts';
import { FIGURE_NAMES, figureOf } from './figures.ts';

export const STUDY_SCHEMA = 'qcow2-bench/study@1';

const NAME = /^[a-z0-9]+(-[a-z0-9]+)*$/;
const name = z.string().max(60).regex(NAME, 'must be lower-case words joined by hyphens');
const optionName = z.string().regex(NAME, 'must be the name of an option of run, without the dashes');
const value = z.string().min(1).max(120);
const values = z.union([value.transform((one) => [one]), z.array(value).min(1).max(64)]);
const axis = z.enum(AXIS_NAMES);
const figure = z
  .string()
  .refine((text) => figureOf(text) !== undefined, {
    error: `must be a figure: ${FIGURE_NAMES.join(', ')}, time:MODEL or open:MODEL`,
  })
  .describe(`${FIGURE_NAMES.join(', ')}, time:MODEL or open:MODEL`);
const about = z.string().min(1).max(24).describe('what the sentence is about, in a word or two');
const where = z
  .partialRecord(axis, values)
  .default({})
  .describe('values that cells have to have; of several, any; !VALUE leaves one out');
const per = z
  .array(axis)
  .max(3)
  .default([])
  .describe('a sentence for each value of these; sentences that are the same but for it become one');
const sentence = z.string().min(1).max(600);

const base = { about, where, per };

const change = z
  .strictObject({
    kind: z.literal('change'),
    ...base,
    figure,
    axis,
    from: value,
    to: value,
    less: sentence.optional().describe('if the figure is less with `to` in every pair of cells'),
    more: sentence.optional().describe('if it is more in every pair'),
    same: sentence.optional().describe('if a reader cannot distinguish the two in any pair'),
  })
  .describe('one value of an axis against another; pairs that disagree are listed instead');
const best = z
  .strictObject({
    kind: z.literal('best'),
    ...base,
    figure,
    axis,
    one: sentence.describe('if one value has the least figure wherever it is compared'),
    tie: sentence.optional().describe('if all values have the same figure'),
  })
  .describe('the value with the least figure; places that disagree are listed instead');
const list = z
  .strictObject({
    kind: z.literal('values'),
    ...base,
    figure,
    axis,
    text: sentence,
  })
  .describe('the figure with each value of an axis');
const enough = z
  .strictObject({
    kind: z.literal('enough'),
    ...base,
    figure,
    axis,
    within: z.number().min(0).max(1).describe('of the least figure: 0.05 is 5 % more'),
    text: sentence.describe('if a value between the first and the last is enough'),
    always: sentence.optional().describe('if the first value is enough'),
    last: sentence.optional().describe('if only the last value is: a larger one may do better'),
  })
  .describe('the first value of an axis, in the order of the study, from which on nothing is gained');
const zero = z
  .strictObject({
    kind: z.literal('zero'),
    ...base,
    figure,
    of: figure.optional().describe('what {total} adds up'),
    zero: sentence.describe('if it is 0 in every cell'),
    some: sentence.describe('if it is not'),
  })
  .describe('whether a figure is 0 in all cells');
const times = z
  .strictObject({ kind: z.literal('times'), ...base, axis, from: value, to: value, text: sentence })
  .describe('the time per request on each device, only where a difference is exact or shown');

const rule = z.discriminatedUnion('kind', [change, best, list, enough, zero, times]);

/** What each kind of rule can put into its sentences, in braces; the axes of `per` come in addition. */
const PLACEHOLDERS: Readonly<Record<Rule['kind'], readonly string[]>> = {
  change: ['from', 'to', 'change', 'factor', 'range', 'place', 'pairs'],
  best: ['best', 'at', 'worst', 'worstAt', 'places'],
  values: ['values'],
  enough: ['value', 'at', 'before', 'beforeAt'],
  zero: ['count', 'total', 'cells', 'places'],
  times: ['times', 'place'],
};
const PLACEHOLDER = /\{([^{}]*)\}/g;

const studyFields = z.strictObject({
  $schema: z.string().optional().describe('for editors; not read'),
  schema: z.literal(STUDY_SCHEMA),
  name,
  question: z.string().min(1).max(160),
  description: z.string().min(1).max(2000).describe('what is compared, and how to read the answer'),
  workloads: z.array(value).min(1).max(16).describe('names (see list), or paths; --workload replaces them'),
  axes: z
    .record(optionName, values)
    .describe('options of run with several values: every combination is a cell'),
  fixed: z.record(optionName, value).default({}).describe('options of run with one value'),
  growth: z.boolean().default(false).describe('look at the size of the image during the run'),
  crash: z
    .strictObject({
      requests: z.int().min(1).max(100_000).describe('of each workload'),
      states: z.int().min(1).max(10_000_000).describe('tried per cell, at most'),
    })
    .optional()
    .describe('try the states that a power loss can leave, in each cell'),
  answer: z.array(rule).min(1).max(40).describe('the first sentence is the headline'),
  table: z.strictObject({
    rows: z.array(axis).min(1).max(5),
    columns: axis.optional().describe('a column for each value; else a column for each figure'),
    figures: z.array(figure).min(1).max(12),
  }),
  chart: z
    .strictObject({
      title: z.string().min(1).max(120),
      mark: z.enum(['bars', 'line', 'growth']),
      figure: figure.optional().describe('of bars and lines'),
      axis: axis.describe('a bar or a point for each value; of growth, a line'),
      colour: axis.optional(),
      panels: axis.optional(),
      where: where.optional(),
      scale: z.enum(['linear', 'log']).default('linear'),
    })
    .describe('drawn by --output'),
});

export const studySchema = studyFields.superRefine(({ answer, chart, axes, fixed }, context) => {
  for (const [index, each] of answer.entries()) {
    const allowed = [...PLACEHOLDERS[each.kind], ...each.per];
    for (const [field, text] of Object.entries(each)) {
      if (typeof text !== 'string') continue;
      for (const [, placeholder = ''] of text.matchAll(PLACEHOLDER)) {
        if (allowed.includes(placeholder)) continue;
        const message = `{${placeholder}} is no placeholder of '${each.kind}'; use ${allowed.map((one) => `{${one}}`).join(', ')}`;
        context.addIssue({ code: 'custom', path: ['answer', index, field], message });
      }
    }
  }
  if ((chart.mark === 'growth') === (chart.figure !== undefined)) {
    const message = 'is needed for bars and lines, and not for growth';
    context.addIssue({ code: 'custom', path: ['chart', 'figure'], message });
  }
  for (const option of Object.keys(fixed).filter((each) => each in axes)) {
    context.addIssue({ code: 'custom', path: ['fixed', option], message: 'is an axis too' });
  }
});

export type Study = z.output<typeof studySchema>;
export type Rule = z.output<typeof rule>;
export type RuleOf<Kind extends Rule['kind']> = Extract<Rule, { readonly kind: Kind }>;

/** JSON Schema (draft 2020-12) of a study as a person writes it: docs/study.schema.json. */
export function studyJsonSchema(): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(studyFields, { io: 'input', reused: 'inline' });
  return { $schema, title: 'qcow2-bench study', ...rest };
}
