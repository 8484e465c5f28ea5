/** `list`: what there is to choose from. */

import { wrapped } from '../../core/text-lines.ts';
import { defineCommand } from '../grammar/command.ts';
import { EXIT } from '../terminal/exit-code.ts';
import {
  CACHE_MEANINGS,
  DEVICE_MEANINGS,
  ENGINE_MEANINGS,
  formatMeanings,
  PAYLOAD_MEANINGS,
  REFCOUNT_MEANINGS,
} from '../options/meanings.ts';
import { flag, inGroup } from '../options/option-kinds.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { readStudy, studyNames } from '../../study/study-file.ts';
import { modelDevice } from '../../device/device-model.ts';
import { DEVICE_MODELS } from '../../device/device-models.ts';
import { listAxisSources, listSources } from '../../workload/library.ts';
import { TRACE_FORMATS, traceFormat } from '../../workload/trace/trace-formats.ts';

export const listCommand = defineCommand({
  options: (yargs) => yargs.options(inGroup('Output:', { json: flag('Print the list as JSON') })),
  files: () => [],

  run: async ({ json }, terminal) => {
    const sections = await listSections();
    if (json) terminal.print(JSON.stringify(asJson(sections), null, 2));
    else terminal.print(asText(sections, terminal));
    return EXIT.good;
  },
});

const TRACE_FORMAT_TITLES = Object.fromEntries(
  TRACE_FORMATS.map((format) => [format, traceFormat(format).title]),
);

interface Section {
  /** As the JSON calls it. */
  readonly key: string;
  readonly title: string;
  /** The option that takes the names. */
  readonly option: string;
  readonly entries: readonly Entry[];
}

interface Entry {
  readonly name: string;
  readonly meaning: string;
}

async function listSections(): Promise<readonly Section[]> {
  const sources = await listSources();
  const entriesOf = (kind: 'workload' | 'recording'): Entry[] =>
    sources.filter((source) => source.kind === kind).map(({ name, title }) => ({ name, meaning: title }));
  return [
    { key: 'workloads', title: 'Workloads', option: '--workload', entries: entriesOf('workload') },
    {
      key: 'axes',
      title: 'Axes (as of crash-then-open, for all its workloads)',
      option: '--workload',
      entries: (await listAxisSources()).map(({ name, title }) => ({ name, meaning: title })),
    },
    { key: 'recordings', title: 'Recordings', option: '--workload', entries: entriesOf('recording') },
    {
      key: 'studies',
      title: 'Studies',
      option: 'study NAME',
      entries: studyNames().map((name) => ({ name, meaning: readStudy(name).question })),
    },
    section('formats', 'Formats', '--format', formatMeanings()),
    section('refcounts', 'Refcount modes', '--refcounts', REFCOUNT_MEANINGS),
    section('cacheModes', 'Cache modes', '--cache', CACHE_MEANINGS),
    section('devices', 'Devices', '--device', DEVICE_MEANINGS),
    {
      key: 'deviceModels',
      title: 'Device models (virtual time)',
      option: '--device',
      entries: DEVICE_MODELS.map(({ name, description }) => ({
        name: modelDevice(name),
        meaning: description,
      })),
    },
    section('engines', 'Engines', '--engine', ENGINE_MEANINGS),
    section('traceFormats', 'Trace formats', '--trace-format', TRACE_FORMAT_TITLES),
    section('payloads', 'Payloads', '--payload', PAYLOAD_MEANINGS),
  ];
}

function section(
  key: string,
  title: string,
  option: string,
  meanings: Readonly<Record<string, string>>,
): Section {
  return {
    key,
    title,
    option,
    entries: Object.entries(meanings).map(([name, meaning]) => ({ name, meaning })),
  };
}

function asJson(sections: readonly Section[]): Record<string, readonly Entry[]> {
  return Object.fromEntries(sections.map(({ key, entries }) => [key, entries]));
}

function asText(sections: readonly Section[], { paint, width }: Terminal): string {
  return sections
    .map(({ title, option, entries }) => {
      // A column of its own for each section: one long name would push all the others' meanings off
      // the screen.
      const column = Math.max(...entries.map(({ name }) => name.length));
      const room = Math.min(WIDTH_MAX, width) - column - 4;
      const lines = entries.flatMap(({ name, meaning }) =>
        wrapped(meaning, room).map(
          (line, index) => `  ${paint.cyan((index === 0 ? name : '').padEnd(column))}  ${line}`,
        ),
      );
      return [`${paint.bold(title)} ${paint.dim(option)}`, ...lines].join('\n');
    })
    .join('\n\n');
}

/** Columns that are used of a wider terminal. */
const WIDTH_MAX = 100;
