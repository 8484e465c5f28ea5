/** `crash`: every state that a power loss can leave, and whether it keeps what was promised. */

import { existsSync } from '../../core/host-fs.ts';
import { shippedNames, AXES, expandAxes } from '../../workload/library.ts';
import { traceExists, traceFiles } from '../../workload/trace/trace-files.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { reads, readsImage } from '../options/file-uses.ts';
import { LAYOUT_AXES } from '../options/layout-options.ts';
import { ENGINES } from '../options/meanings.ts';
import { CELL_OPTIONS } from '../options/matrix-options.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { choice, count, listOf, suggesting, text } from '../options/option-values.ts';
import { SEEN_PROMISES } from '../../crash/log-run.ts';
import { STEP_KINDS } from '../../crash/steps.ts';
import { CRASH_SUITES } from '../sessions/crash-cells.ts';
import { crashSession, reproduceCase } from '../sessions/crash-session.ts';
import { logSession } from '../sessions/log-session.ts';
import { UsageError } from '../terminal/usage-error.ts';

const STATES_MAX = 1_000_000_000;
const JOBS_MAX = 256;
const NESTED_MAX = 8;
const DEFAULT_STATES = '20000';
const DEFAULT_REQUESTS = '64';
const DEFAULT_SEED = '7';

export const crashCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(
        inGroup('Workloads:', {
          workload: optional(
            'Workloads (see list), workload files or traces, comma-separated; default: stride',
            listOf('workload', suggesting([...shippedNames(), ...AXES], text('workload'))),
          ),
          suite: optional(
            'Cells of many features, instead of workloads and image options: quick, full',
            choice('suite', CRASH_SUITES),
          ),
          steps: optional(
            'Done to the image between the requests: snapshots, resize, compressed',
            listOf('steps', choice('steps', STEP_KINDS)),
          ),
          requests: preset(
            'Run only the first N requests of each workload',
            count('requests', { min: 1 }),
            DEFAULT_REQUESTS,
          ),
        }),
      )
      .options({
        format: CELL_OPTIONS.format,
        refcounts: CELL_OPTIONS.refcounts,
        cache: CELL_OPTIONS.cache,
        'cluster-size': CELL_OPTIONS['cluster-size'],
        'queue-depth': CELL_OPTIONS['queue-depth'],
        'backing-depth': CELL_OPTIONS['backing-depth'],
      })
      .options(LAYOUT_AXES)
      .options(
        inGroup('Device between two syncs:', {
          atomic: preset(
            'Unit of an atomic write: 512, 4096 (sectors) or write (any)',
            choice('atomic', ['512', '4096', 'write']),
            '512',
          ),
          garbage: flag('A sector that was being written may hold neither the old nor the new bytes'),
          order: preset(
            'Order in which writes reach the disk: any, issue',
            choice('order', ['any', 'issue']),
            'any',
          ),
        }),
      )
      .options(
        inGroup('Exploring:', {
          states: preset(
            'Try at most N states per cell',
            count('states', { min: 1, max: STATES_MAX }),
            DEFAULT_STATES,
          ),
          nested: preset(
            'Crashes in a row: each after the first ends an opening or a repair',
            count('nested', { min: 1, max: NESTED_MAX }),
            '1',
          ),
          'verify-with-qemu': optional(
            'Have QEMU read, check and repair N states per cell as well',
            count('verify-with-qemu', { min: 1 }),
          ),
          faults: flag(
            'Also let each host operation fail in turn: EIO, ENOSPC, a short write, a failed sync',
          ),
          seed: preset(
            'Seed of the sample where there are more states',
            count('seed', { min: 0 }),
            DEFAULT_SEED,
          ),
          minutes: optional('Begin no further cell after so many minutes', count('minutes', { min: 1 })),
          jobs: preset(
            'Explore N cells at once, each in a thread',
            count('jobs', { min: 1, max: JOBS_MAX }),
            '1',
          ),
          examples: optional(
            'Directory for an example of each finding, as a file for --reproduce',
            text('examples'),
          ),
          resume: optional(
            'Keep each explored cell in this file, and leave out those that it has',
            text('resume'),
          ),
          reproduce: optional('Run the example of this file again, instead of exploring', text('reproduce')),
          json: flag('Print the findings as JSON'),
        }),
      )
      .options(
        inGroup('Other engines, and their logs:', {
          engine: preset(
            'Engine that serves the requests: builtin; qemu, with a real qemu-io beside the builtin one',
            choice('engine', ENGINES),
            'builtin',
          ),
          'qemu-bin-dir': optional(
            'Directory of qemu-io, for the engine qemu; default: search PATH',
            text('qemu-bin-dir'),
          ),
          log: optional(
            'Explore this dm-log-writes log of another program, such as of blklogwrites, instead of workloads',
            text('log'),
          ),
          base: optional(
            'Image as it was before the log, of the one --format; it is only read',
            text('base'),
          ),
          acks: preset(
            'What the guest was promised: flushes, marks (of the log), or a file of its requests',
            text('acks'),
            'flushes',
          ),
          'all-entries': flag('Read the log beyond the entries that its head counts'),
          'keep-logs': optional(
            'Keep image, log and requests of each cell of the engine qemu in folders of this directory',
            text('keep-logs'),
          ),
        }),
      )
      .epilogue(
        examples([
          ['crash --workload stride --format qcow2', 'eager and lazy refcounts in all cache modes'],
          [
            'crash --workload ./mine.json --cache writeback --states 1000000',
            'try a million states per cell',
          ],
          ['crash --format qcow2 --cache writeback --atomic write', 'a device that tears no write'],
          ['crash --workload stride --format qcow2 --engine qemu', 'a real QEMU beside the builtin engine'],
          ['crash --log writes.log --base before.qcow2 --format qcow2', 'a log of blklogwrites'],
          ['crash --reproduce examples/crash-early-reuse-1.json', 'what --examples kept'],
        ]),
      ),

  files: ({ workload, reproduce, resume, log, base, acks, format }) => {
    const shipped = new Set(shippedNames());
    const named = expandAxes(workload ?? []).filter(
      (name) => !shipped.has(name) && existsSync(name) && traceExists(name),
    );
    return [
      ...reads('--workload', ...named.flatMap(traceFiles)),
      ...reads('--reproduce', reproduce),
      ...reads('--resume', resume),
      ...reads('--log', log),
      ...readsImage('--base', base, { format: format?.[0] }),
      ...(SEEN_PROMISES.some((each) => each === acks) ? [] : reads('--acks', acks)),
    ];
  },

  run: async (args, terminal) => {
    if (args.reproduce !== undefined) return reproduceCase(args.reproduce, args, terminal);
    if (args.log !== undefined || args.base !== undefined) return logSession(args, terminal);
    if (args.acks !== 'flushes' || args['all-entries']) {
      throw new UsageError('--acks and --all-entries are for a log: add --log and --base');
    }
    return crashSession(args, terminal);
  },
});
