/**
 * The options that a command declares, by name, without parsing anything: for suggestions and
 * completion.
 */

import type { Argv } from 'yargs';

import type { Command } from './command.ts';
import { valuesOf } from '../options/option-values.ts';

export interface DeclaredOption {
  /** Whether a value follows its name. */
  readonly takesValue: boolean;
  /** The values, where they are a closed set. */
  readonly values: readonly string[];
  /** Whether several of them, separated by commas, are one value. */
  readonly isList: boolean;
}

/** Options of every command. */
export const COMMON_OPTIONS: readonly string[] = ['help', 'version'];

export function declaredOptions(command: Command): ReadonlyMap<string, DeclaredOption> {
  const found = new Map<string, DeclaredOption>();
  // In place of yargs: notes the options and aliases that it gets, and ignores all other calls.
  const recorder: unknown = new Proxy(
    {},
    {
      get: (_, method) => (options?: unknown, other?: unknown) => {
        if (method === 'options' && isTable(options)) {
          for (const [name, option] of Object.entries(options)) found.set(name, describe(option));
        }
        const aliased = method === 'alias' ? found.get(String(options)) : undefined;
        if (aliased !== undefined) found.set(String(other), aliased);
        return recorder;
      },
    },
  );
  command.declare(recorder as Argv);
  return found;
}

function describe(option: unknown): DeclaredOption {
  if (!isTable(option)) return { takesValue: false, values: [], isList: false };
  const { values, isList } = valuesOf(option['coerce']);
  return { takesValue: option['type'] !== 'boolean', values, isList };
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
