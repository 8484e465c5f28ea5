/** The commands of the program, in the order in which its help lists them. */

import type { CommandGroup, ListedCommand } from './grammar/command.ts';
import { EXIT } from './terminal/exit-code.ts';

export const COMMANDS: readonly (ListedCommand | CommandGroup)[] = [
  {
    usage: 'bench',
    summary: 'Measure the default suite and write result, table and report',
    load: async () => (await import('./commands/bench.ts')).benchCommand,
  },
  {
    usage: 'run',
    summary: 'Measure workloads × formats × cache modes of your choice',
    load: async () => (await import('./commands/run.ts')).runCommand,
  },
  {
    usage: 'replay <trace>',
    summary: 'Measure a recorded trace',
    load: async () => (await import('./commands/replay.ts')).replayCommand,
  },
  {
    usage: 'record',
    summary: 'Serve an image over NBD and write down every request',
    load: async () => (await import('./commands/record.ts')).recordCommand,
  },
  {
    usage: 'serve',
    summary: 'Serve an image over NBD',
    load: async () => (await import('./commands/serve.ts')).serveCommand,
  },
  {
    usage: 'trace',
    summary: 'Look at recorded traces of any format, convert and cut them',
    commands: [
      {
        usage: 'info <trace>',
        summary: 'Tell what a trace holds, with a picture of it',
        load: async () => (await import('./commands/trace-info.ts')).traceInfoCommand,
      },
      {
        usage: 'convert <trace> <out>',
        summary: 'Write a trace in another format',
        load: async () => (await import('./commands/trace-convert.ts')).traceConvertCommand,
      },
      {
        usage: 'slice <trace> <out>',
        summary: 'Write a part of a trace, by time, count and volume',
        load: async () => (await import('./commands/trace-slice.ts')).traceSliceCommand,
      },
    ],
  },
  {
    usage: 'report <result..>',
    summary: 'Draw results as one self-contained page, or as Markdown',
    load: async () => (await import('./commands/report.ts')).reportCommand,
  },
  {
    usage: 'gate <result>',
    summary: 'Compare exact counts with a baseline; 3 if one got worse',
    load: async () => (await import('./commands/gate.ts')).gateCommand,
  },
  {
    usage: 'calibrate',
    summary: 'Measure a device for --device model:FILE',
    load: async () => (await import('./commands/calibrate.ts')).calibrateCommand,
  },
  {
    usage: 'create <image> [size]',
    summary: 'Create an empty image',
    load: async () => (await import('./commands/create.ts')).createCommand,
  },
  {
    usage: 'info <image>',
    summary: 'Tell what an image says of itself',
    load: async () => (await import('./commands/info.ts')).infoCommand,
  },
  {
    usage: 'map <image>',
    summary: 'List where the bytes of a disk lie, through its backing files',
    load: async () => (await import('./commands/map.ts')).mapCommand,
  },
  {
    usage: 'convert <in> <out>',
    summary: 'Copy a disk into an image of another format, with what stands behind it',
    load: async () => (await import('./commands/convert.ts')).convertCommand,
  },
  {
    usage: 'resize <image> <size>',
    summary: 'Give the disk of an image another size',
    load: async () => (await import('./commands/resize.ts')).resizeCommand,
  },
  {
    usage: 'check <image>',
    summary: 'Check an image, and repair it if asked to',
    // As `qemu-img check`: its 2 means corruption.
    usageExitCode: EXIT.error,
    load: async () => (await import('./commands/check.ts')).checkCommand,
  },
  {
    usage: 'snapshot <image>',
    summary: 'List, take, apply or delete internal snapshots of a qcow2 image',
    load: async () => (await import('./commands/snapshot.ts')).snapshotCommand,
  },
  {
    usage: 'list',
    summary: 'List workloads, formats, cache modes, devices, engines and trace formats',
    load: async () => (await import('./commands/list.ts')).listCommand,
  },
  {
    usage: 'completion <shell> [words..]',
    summary: 'Print a script that completes commands, options and values in bash or zsh',
    load: async () => (await import('./commands/completion.ts')).completionCommand(COMMANDS),
  },
];
