/** The commands of the program, in the order in which its help lists them. */

import type { CommandGroup, ListedCommand } from './grammar/command.ts';
import { EXIT } from './terminal/exit-code.ts';

export const COMMANDS: readonly (ListedCommand | CommandGroup)[] = [
  {
    heading: 'Measure',
    usage: 'bench',
    summary: 'Run the default suite; write result, CSV table and report',
    load: async () => (await import('./commands/bench.ts')).benchCommand,
  },
  {
    usage: 'run',
    summary: 'Run selected workloads × formats × cache modes',
    load: async () => (await import('./commands/run.ts')).runCommand,
  },
  {
    usage: 'replay <trace>',
    summary: 'Replay a recorded trace',
    load: async () => (await import('./commands/replay.ts')).replayCommand,
  },
  {
    usage: 'ingest <log>',
    summary: 'Count a run of another engine from its log (strace, JSON Lines)',
    load: async () => (await import('./commands/ingest.ts')).ingestCommand,
  },
  {
    usage: 'study <study>',
    summary: 'Answer a question about disk images for your workload (see list)',
    load: async () => (await import('./commands/study.ts')).studyCommand,
  },
  {
    usage: 'advise <workload>',
    summary: 'Rank image settings for a workload or trace; print lines to paste',
    load: async () => (await import('./commands/advise.ts')).adviseCommand,
  },
  {
    usage: 'crash',
    summary: 'Try every state that a power loss can leave; check what was promised',
    load: async () => (await import('./commands/crash.ts')).crashCommand,
  },
  {
    usage: 'calibrate',
    summary: 'Measure a storage device and write a model for --device model:FILE',
    load: async () => (await import('./commands/calibrate.ts')).calibrateCommand,
  },
  {
    heading: 'Traces',
    usage: 'record',
    summary: 'Serve an image over NBD and record every request',
    load: async () => (await import('./commands/record.ts')).recordCommand,
  },
  {
    usage: 'serve',
    summary: 'Serve an image over NBD',
    load: async () => (await import('./commands/serve.ts')).serveCommand,
  },
  {
    usage: 'trace',
    summary: 'Inspect, convert and slice recorded traces',
    commands: [
      {
        usage: 'info <trace>',
        summary: 'Show statistics and a heat map of a trace',
        load: async () => (await import('./commands/trace-info.ts')).traceInfoCommand,
      },
      {
        usage: 'convert <trace> <out>',
        summary: 'Convert a trace to another format',
        load: async () => (await import('./commands/trace-convert.ts')).traceConvertCommand,
      },
      {
        usage: 'slice <trace> <out>',
        summary: 'Extract part of a trace by time, count or volume',
        load: async () => (await import('./commands/trace-slice.ts')).traceSliceCommand,
      },
    ],
  },
  {
    heading: 'Results',
    usage: 'report <result..>',
    summary: 'Render results as a self-contained HTML page or Markdown',
    load: async () => (await import('./commands/report.ts')).reportCommand,
  },
  {
    usage: 'merge <result..>',
    summary: 'Join the shards of a run (--shard) into one result',
    load: async () => (await import('./commands/merge.ts')).mergeCommand,
  },
  {
    usage: 'compare <result..>',
    summary: 'Compare results: counts by cause, times; or two host logs',
    load: async () => (await import('./commands/compare.ts')).compareCommand,
  },
  {
    usage: 'gate [result]',
    summary: 'Compare exact counts with a baseline; exit code 3 on a regression',
    load: async () => (await import('./commands/gate.ts')).gateCommand,
  },
  {
    usage: 'history',
    summary: 'Keep the costs of each commit; show what changed, and when',
    commands: [
      {
        usage: 'add <result..>',
        summary: 'Append the results of a commit to a history',
        load: async () => (await import('./commands/history-add.ts')).historyAddCommand,
      },
      {
        usage: 'show',
        summary: 'Show which commits changed counts or times',
        load: async () => (await import('./commands/history-show.ts')).historyShowCommand,
      },
    ],
  },
  {
    heading: 'Images',
    usage: 'create <image> [size]',
    summary: 'Create an empty image',
    load: async () => (await import('./commands/create.ts')).createCommand,
  },
  {
    usage: 'info <image>',
    summary: 'Show information about an image',
    load: async () => (await import('./commands/info.ts')).infoCommand,
  },
  {
    usage: 'map <image>',
    summary: 'Show how guest offsets map to image files, through the backing chain',
    load: async () => (await import('./commands/map.ts')).mapCommand,
  },
  {
    usage: 'measure [image]',
    summary: 'Show how large an image file would get, before it is made',
    load: async () => (await import('./commands/measure.ts')).measureCommand,
  },
  {
    usage: 'convert <in> <out>',
    summary: 'Convert an image to another format, including its backing chain',
    load: async () => (await import('./commands/convert.ts')).convertCommand,
  },
  {
    usage: 'resize <image> <size>',
    summary: 'Resize an image',
    load: async () => (await import('./commands/resize.ts')).resizeCommand,
  },
  {
    usage: 'rebase <image>',
    summary: 'Change or drop the backing file of an image; its disk stays the same',
    load: async () => (await import('./commands/rebase.ts')).rebaseCommand,
  },
  {
    usage: 'commit <image>',
    summary: 'Write what an overlay holds into its backing file',
    load: async () => (await import('./commands/commit.ts')).commitCommand,
  },
  {
    usage: 'amend <image>',
    summary: 'Change lazy refcounts or the version of a qcow2 image',
    load: async () => (await import('./commands/amend.ts')).amendCommand,
  },
  {
    usage: 'check <image>',
    summary: 'Check an image, and optionally repair it',
    // As `qemu-img check`: its 2 means corruption.
    usageExitCode: EXIT.error,
    load: async () => (await import('./commands/check.ts')).checkCommand,
  },
  {
    usage: 'snapshot <image>',
    summary: 'List, create, apply or delete internal snapshots of a qcow2 or B-tree image',
    load: async () => (await import('./commands/snapshot.ts')).snapshotCommand,
  },
  {
    usage: 'bitmap <image>',
    summary: 'Add, remove, clear, enable or disable a dirty bitmap of a qcow2 image',
    load: async () => (await import('./commands/bitmap.ts')).bitmapCommand,
  },
  {
    heading: 'Other',
    usage: 'list',
    summary: 'List workloads, studies, formats, cache modes, devices, engines …',
    load: async () => (await import('./commands/list.ts')).listCommand,
  },
  {
    usage: 'completion <shell> [words..]',
    summary: 'Print a completion script for bash or zsh',
    load: async () => (await import('./commands/completion.ts')).completionCommand(COMMANDS),
  },
];
