/**
 * What the options of each command are tried with: a call of the command that succeeds, what an
 * option needs beside itself, and plausible values where the program names none.
 *
 * The names of the commands and options come from the program; this table only adds to them.
 */

/**
 * Options by name, `true` for a flag; arguments by their name in capitals, in their order.
 * `undefined` takes one away.
 */
export type Words = Readonly<Record<string, string | true | undefined>>;

interface CommandCase {
  /** What succeeds in a folder with the prepared files. */
  readonly call: Words;
  /** What an option needs, in addition to the call or in place of a part of it. */
  readonly partners?: Readonly<Record<string, Words>>;
}

/** Of any command. A free value that is not here is tried with `FREE_VALUES` alone. */
export const PLAUSIBLE: Readonly<Record<string, readonly string[]>> = {
  clear: ['followed'],
  disable: ['followed'],
  enable: ['followed'],
  merge: ['followed'],
  source: ['followed'],
  remove: ['followed'],
  columns: ['time=1:100ns,op=4,offset=5,length=6'],
  apply: ['one'],
  backing: ['disk.raw'],
  balance: ['result.json'],
  'backing-dir': ['.'],
  acks: ['acks.json', 'marks', 'flushes'],
  charts: ['.'],
  base: ['disk.qcow2', 'disk.raw'],
  baseline: ['baseline.json'],
  change: ['10%'],
  'data-file-path': ['external.qcow2.data'],
  date: ['2026-01-31T12:00:00Z'],
  delete: ['one'],
  examples: ['.'],
  dir: ['.'],
  fact: ['program=dd'],
  file: ['history.jsonl', 'new.jsonl'],
  from: ['1us'],
  image: ['disk.qcow2', 'top.qcow2'],
  'keep-logs': ['.'],
  limits: ['gate.json'],
  log: ['writes.log'],
  output: ['.'],
  listen: ['localhost:0'],
  precision: ['5%'],
  'qemu-bin-dir': ['/usr/bin'],
  reproduce: ['crash.json'],
  requests: ['tiny.json'],
  shard: ['1/1', '1/2'],
  snapshot: ['one'],
  until: ['1ms'],
  volume: ['hm_0'],
  workload: ['tiny.json', 'trace.csv', 'tiny.json,trace.csv'],
};

/** A small figure, a large one, a size, a malformed figure, and a name. */
export const FREE_VALUES = ['1', '3000000000', '64KiB', '1.5x', 'some-name'] as const;

const OVERLAY = { IMAGE: 'top.qcow2' };
const BACKING = {
  'backing-dir': OVERLAY,
  'any-backing': OVERLAY,
  'backing-format': OVERLAY,
  'data-file-path': { IMAGE: 'external.qcow2' },
};

const CHAIN: Words = { IMAGE: 'top.qcow2', 'backing-chain': true };

const CELL: Words = { format: 'qcow2', refcounts: 'eager', cache: 'writeback', samples: '0' };
const TIMED: Words = { samples: '1', device: 'file' };
const ON_OVERLAY: Words = { image: 'top.qcow2' };
const OF_BTREE: Words = { format: 'btree', refcounts: undefined };
const MATRIX_PARTNERS: Readonly<Record<string, Words>> = {
  'any-backing': ON_OVERLAY,
  'backing-dir': ON_OVERLAY,
  'backing-format': ON_OVERLAY,
  balance: { shard: '1/1', out: 'new.json' },
  below: { ...TIMED, 'host-fs': 'f2fs' },
  'btree-cache-size': OF_BTREE,
  'node-size': OF_BTREE,
  device: { samples: '1' },
  dir: TIMED,
  'host-fs': TIMED,
  'in-place': { image: 'disk.qcow2' },
  overlap: { ...TIMED, 'queue-depth': '2' },
  precision: { samples: undefined, device: 'null', 'time-limit': '1' },
  'qemu-bin-dir': { engine: 'qemu' },
  shard: { out: 'new.json' },
  'time-limit': TIMED,
  'timed-requests': TIMED,
  warmup: { samples: '1', device: 'null' },
};

const MADE: Words = { image: 'new.qcow2', create: '1MiB' };
const TCP: Words = { socket: undefined, listen: 'localhost:0' };
const SERVED_PARTNERS: Readonly<Record<string, Words>> = {
  'allow-remote': TCP,
  'any-backing': ON_OVERLAY,
  'backing-dir': ON_OVERLAY,
  'backing-format': ON_OVERLAY,
  'cluster-size': MADE,
  compat: MADE,
  'compression-type': MADE,
  create: { image: 'new.qcow2' },
  'data-file': MADE,
  'extended-l2': MADE,
  'btree-cache-size': { ...MADE, format: 'btree' },
  commit: { ...MADE, format: 'btree' },
  'node-size': { ...MADE, format: 'btree' },
  format: MADE,
  listen: { socket: undefined },
  preallocation: MADE,
  'refcount-bits': MADE,
};

const TRACE_PARTNERS: Readonly<Record<string, Words>> = {
  columns: { TRACE: 'msr.csv' },
  volume: { TRACE: 'msr.csv' },
};
const TRACE_WORKLOAD_PARTNERS: Readonly<Record<string, Words>> = {
  columns: { WORKLOAD: 'msr.csv' },
  volume: { WORKLOAD: 'msr.csv' },
};
const WRITTEN_TRACE_PARTNERS = { ...TRACE_PARTNERS, lossy: { to: 'fio-v3' } };

/** By the command's name, as `help` has it. */
export const COMMAND_CASES: ReadonlyMap<string, CommandCase> = new Map(
  Object.entries<CommandCase>({
    bench: {
      call: { workload: 'tiny.json', ...CELL, out: 'new.json', report: 'new.html' },
      partners: { ...MATRIX_PARTNERS, resume: { out: 'bench.json' } },
    },
    run: {
      call: { workload: 'tiny.json', ...CELL },
      partners: { ...MATRIX_PARTNERS, resume: { out: 'result.json' } },
    },
    replay: {
      call: { TRACE: 'trace.csv', ...CELL },
      partners: {
        ...MATRIX_PARTNERS,
        ...TRACE_PARTNERS,
        'flush-policy': { TRACE: 'msr.csv' },
        remap: { size: '512KiB' },
        resume: { out: 'replay.json' },
        timing: { samples: '1', device: 'null' },
      },
    },
    study: {
      call: { STUDY: 'study.json', device: 'memory', samples: '0' },
      partners: {
        below: { ...TIMED, 'host-fs': 'f2fs' },
        'btree-cache-size': OF_BTREE,
        'node-size': OF_BTREE,
        device: { samples: '1' },
        dir: TIMED,
        'host-fs': TIMED,
        overlap: { ...TIMED, 'queue-depth': '2' },
        precision: { samples: undefined, device: 'null', 'time-limit': '1' },
        'time-limit': TIMED,
        'timed-requests': TIMED,
      },
    },
    advise: {
      call: {
        WORKLOAD: 'trace.csv',
        ...{ requests: '4', format: 'qcow2', refcounts: 'lazy', cache: 'none' },
        ...{ 'cluster-size': '64KiB', preallocation: 'off', 'extended-l2': 'off', device: 'model:nvme-plp' },
      },
      partners: TRACE_WORKLOAD_PARTNERS,
    },
    record: {
      call: { image: 'disk.qcow2', socket: 'nbd.sock', trace: 'new.csv' },
      partners: SERVED_PARTNERS,
    },
    serve: { call: { image: 'disk.qcow2', socket: 'nbd.sock' }, partners: SERVED_PARTNERS },
    'trace info': { call: { TRACE: 'trace.csv' }, partners: TRACE_PARTNERS },
    'trace convert': { call: { TRACE: 'trace.csv', OUT: 'new.csv' }, partners: WRITTEN_TRACE_PARTNERS },
    'trace slice': { call: { TRACE: 'trace.csv', OUT: 'new.csv' }, partners: WRITTEN_TRACE_PARTNERS },
    report: {
      call: { RESULT: 'result.json', out: 'new.html' },
      partners: { cache: { markdown: true }, charts: { out: undefined }, serve: { out: undefined } },
    },
    merge: { call: { RESULT: 'shard.json', out: 'new.json' } },
    compare: {
      call: { RESULT: 'result.json', OTHER: 'bench.json' },
      partners: {
        by: { RESULT: 'pair.json', OTHER: undefined },
        'ignore-reads': { RESULT: 'ops.jsonl', OTHER: 'ops.jsonl' },
      },
    },
    gate: {
      call: { RESULT: 'result.json', baseline: 'baseline.json' },
      partners: { accept: { baseline: 'new.json' } },
    },
    'history add': { call: { RESULT: 'result.json', commit: '0a1b2c3', file: 'new.jsonl' } },
    'history show': { call: { file: 'history.jsonl' } },
    ingest: {
      call: { LOG: 'ops.jsonl', 'engine-name': 'mine', image: 'disk.qcow2', requests: 'tiny.json' },
      partners: { columns: { requests: 'msr.csv' }, volume: { requests: 'msr.csv' } },
    },
    crash: {
      call: { workload: 'tiny.json', format: 'qcow2', cache: 'writeback', states: '2' },
      partners: {
        suite: { workload: undefined, states: '1', requests: '4' },
        'node-size': { format: 'btree' },
        'btree-cache-size': { format: 'btree' },
        engine: { requests: '2' },
        'qemu-bin-dir': { engine: 'qemu', requests: '2' },
        'keep-logs': { engine: 'qemu', requests: '2' },
        log: { workload: undefined, base: 'disk.raw', format: 'raw' },
        base: { workload: undefined, log: 'writes.log', format: 'raw' },
        acks: { workload: undefined, log: 'writes.log', base: 'disk.raw', format: 'raw' },
        'all-entries': { workload: undefined, log: 'writes.log', base: 'disk.raw', format: 'raw' },
      },
    },
    calibrate: { call: { dir: '.', out: 'new.json' } },
    create: {
      call: { IMAGE: 'new.img', SIZE: '1MiB' },
      partners: {
        backing: { 'backing-format': 'raw' },
        'backing-format': { backing: 'disk.raw' },
        'data-file-name': { 'data-file': 'raw' },
        'node-size': { format: 'btree' },
      },
    },
    info: {
      call: { IMAGE: 'disk.qcow2' },
      partners: { 'any-backing': CHAIN, 'backing-dir': CHAIN, 'backing-format': CHAIN },
    },
    map: { call: { IMAGE: 'disk.qcow2' }, partners: BACKING },
    measure: {
      call: { IMAGE: 'disk.qcow2' },
      partners: { ...BACKING, size: { IMAGE: undefined } },
    },
    convert: {
      call: { IN: 'disk.qcow2', OUT: 'new.img' },
      partners: {
        'any-backing': { IN: 'top.qcow2' },
        'backing-dir': { IN: 'top.qcow2' },
        'backing-format': { IN: 'top.qcow2' },
        'compression-type': { compress: true },
        'node-size': { to: 'btree' },
        'keep-backing': { IN: 'top.qcow2' },
        'in-place': { OUT: 'followed.qcow2' },
        'data-file-path': { IN: 'external.qcow2' },
      },
    },
    resize: {
      call: { IMAGE: 'disk.qcow2', SIZE: '2MiB' },
      partners: { ...BACKING, shrink: { SIZE: '512KiB' } },
    },
    rebase: {
      call: { IMAGE: 'top.qcow2', backing: 'disk.raw', 'backing-format': 'raw' },
      partners: { flatten: { backing: undefined, 'backing-format': undefined } },
    },
    commit: { call: { IMAGE: 'top.qcow2' } },
    amend: { call: { IMAGE: 'disk.qcow2', refcounts: 'lazy' }, partners: BACKING },
    check: { call: { IMAGE: 'disk.qcow2' }, partners: { 'data-file-path': { IMAGE: 'external.qcow2' } } },
    snapshot: { call: { IMAGE: 'disk.qcow2' }, partners: BACKING },
    bitmap: {
      call: { IMAGE: 'disk.qcow2', add: 'new' },
      partners: {
        ...BACKING,
        remove: { IMAGE: 'followed.qcow2', add: undefined },
        clear: { IMAGE: 'followed.qcow2', add: undefined },
        merge: { IMAGE: 'followed.qcow2', add: undefined, source: 'followed' },
        source: { IMAGE: 'followed.qcow2', add: undefined, merge: 'followed' },
        enable: { IMAGE: 'followed.qcow2', add: undefined },
        disable: { IMAGE: 'followed.qcow2', add: undefined },
      },
    },
    list: { call: {} },
    completion: { call: { SHELL: 'bash' } },
  }),
);
