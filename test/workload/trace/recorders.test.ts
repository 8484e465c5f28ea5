/** Traces made by the real tools are read, and real tools read what is written here. */

import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Request } from '../../../src/workload/request.ts';
import { writeTrace } from '../../../src/workload/trace/trace-writer.ts';
import { reasonToSkip, runTool, tryTool } from '../../format/system-tools.ts';
import { testDirectory } from '../../test-directory.ts';
import { blktraceEvent, dmLog, type BlktraceCategory } from './binary-traces.ts';
import { readWhole, requestsIn, temporaryFile } from './trace-files.ts';

const MIB = 1024 * 1024;

/** Operations without their times. */
function operations(requests: readonly Request[]): readonly string[] {
  return requests.map(({ op, offset, length, fua, unmap }) =>
    [
      op,
      ...(op === 'flush' ? [] : [offset, length]),
      ...(fua ? ['fua'] : []),
      ...(unmap ? ['unmap'] : []),
    ].join(' '),
  );
}

function sparseFile(folder: string, bytes: number): string {
  const path = join(folder, 'disk');
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

const noFio = reasonToSkip('fio');
describe.skipIf(noFio !== undefined)(`fio${noFio === undefined ? '' : ` (${noFio})`}`, () => {
  interface FioJob {
    readonly error: number;
    readonly read: { readonly total_ios: number; readonly io_bytes: number };
    readonly write: { readonly total_ios: number; readonly io_bytes: number };
    readonly sync: { readonly total_ios: number };
    readonly trim: { readonly total_ios: number };
  }

  /** What fio says that the job did. */
  function runFio(folder: string, ...options: readonly string[]): FioJob {
    const words = ['--name=job', '--thread', '--output-format=json', '--output=out.json', ...options];
    runTool('fio', words, folder);
    const text = readFileSync(join(folder, 'out.json'), 'utf8');
    const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as { readonly jobs: readonly [FioJob] };
    return jobs[0];
  }

  test('its log of version 3 is what it did', async () => {
    const folder = testDirectory();
    sparseFile(folder, MIB);
    const options = ['--filename=disk', '--rw=randrw', '--bsrange=512-64k', '--size=1M', '--fdatasync=4'];
    const job = runFio(folder, ...options, '--ioengine=psync', '--write_iolog=log');
    const { requests, volume, format } = await readWhole(join(folder, 'log'));
    expect({ volume, format }).toEqual({ volume: 'disk', format: 'fio-v3' });
    const of = (op: string) => requests.filter((request) => request.op === op);
    const bytes = (op: string) => of(op).reduce((sum, { length }) => sum + length, 0);
    expect([of('read').length, bytes('read')]).toEqual([job.read.total_ios, job.read.io_bytes]);
    expect([of('write').length, bytes('write')]).toEqual([job.write.total_ios, job.write.io_bytes]);
    expect(of('flush').length).toBeGreaterThan(0);
    expect(requests.every(({ timeNs }, n) => timeNs >= (requests[n - 1]?.timeNs ?? 0))).toBe(true);
  });

  const JOB = ['--size=1M', '--bs=4k', '--rw=randwrite', '--number_ios=32', '--write_iolog=log'];
  test.each([
    ['clones of a job', ['--name=a', ...JOB, '--filename=disk', '--numjobs=2'], 'disk', 64],
    [
      'jobs with a file each',
      ['--name=a', ...JOB, '--filename=one', '--name=b', ...JOB, '--filename=two'],
      'two',
      32,
    ],
  ] as const)('the log of two %s is one trace', async (_of, options, volume, count) => {
    const folder = testDirectory();
    runTool('fio', ['--output=out', ...options], folder);
    const { requests, adjusted } = await readWhole(join(folder, 'log'), { volume });
    expect(requests).toHaveLength(count);
    expect(requests.every(({ op, length }) => op === 'write' && length === 4096)).toBe(true);
    expect(requests.every(({ timeNs }, n) => timeNs >= (requests[n - 1]?.timeNs ?? 0))).toBe(true);
    expect(adjusted).toEqual([{ what: 'logs joined as if they began together', count: 2 }]);
  });

  test.each(['fio-v2', 'fio-v3'] as const)(
    '%s: fio replays what is written here, request by request',
    async (format) => {
      const folder = testDirectory();
      sparseFile(folder, MIB);
      const plain = { fua: false, unmap: false };
      const requests = Array.from({ length: 40 }, (_, n): Request => {
        const timeNs = n * 2_000_000;
        if (n % 8 === 7) return { op: 'flush', offset: 0, length: 0, ...plain, timeNs };
        return {
          op: n % 3 === 0 ? 'read' : 'write',
          offset: n * 4096,
          length: 512 * (1 + (n % 4)),
          ...plain,
          timeNs,
        };
      });
      await writeTrace(join(folder, 'log'), requests, { format, virtualSize: MIB });
      const of = (op: string) => requests.filter((request) => request.op === op).length;
      const options = ['--filename=disk', '--replay_redirect=disk', '--rw=randrw', '--write_iolog=again'];
      const job = runFio(folder, ...options, '--ioengine=psync', '--read_iolog=log');
      expect(job.error).toBe(0);
      expect([job.read.total_ios, job.write.total_ios]).toEqual([of('read'), of('write')]);
      const bytes = requests.filter(({ op }) => op === 'write').reduce((sum, { length }) => sum + length, 0);
      expect(job.write.io_bytes).toBe(bytes);
    },
  );
});

const noQemu = reasonToSkip('qemu-io');
describe.skipIf(noQemu !== undefined)(`QEMU${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const COMMANDS = [
    'write 0 4096',
    'write -f 65536 4096',
    'flush',
    'discard 131072 65536',
    'write -z 262144 65536',
    'write -z -u 1M 64k',
    'read 512 1k',
  ].flatMap((command) => ['-c', command]);

  test('blklogwrites: a log of what reached the disk', async () => {
    const folder = testDirectory();
    sparseFile(folder, 64 * MIB);
    writeFileSync(join(folder, 'log'), '');
    const image = 'driver=blklogwrites,file.driver=file,file.filename=disk,log.driver=file,log.filename=log';
    runTool('qemu-io', ['--image-opts', ...COMMANDS, image], folder);
    const { requests, format } = await readWhole(join(folder, 'log'));
    expect(format).toBe('dm-log-writes');
    const seen = operations(requests);
    expect(seen.slice(0, 6)).toEqual([
      'write 0 4096',
      'write 65536 4096',
      'flush',
      'flush',
      'discard 131072 65536',
      'write 262144 65536',
    ]);
    expect(seen).toContain('write 1048576 65536');
  });

  test('the head of our dm-log-writes logs is that of QEMU, but for the number of entries', async () => {
    const folder = testDirectory();
    sparseFile(folder, MIB);
    writeFileSync(join(folder, 'theirs'), '');
    const image =
      'driver=blklogwrites,file.driver=file,file.filename=disk,log.driver=file,log.filename=theirs';
    runTool('qemu-io', ['--image-opts', '-c', 'write -P 0 4096 8192', image], folder);
    const request: Request = { op: 'write', offset: 4096, length: 8192, fua: false, unmap: false, timeNs: 0 };
    const ours = join(folder, 'ours');
    await writeTrace(ours, [request], { format: 'dm-log-writes', virtualSize: MIB, count: 1 });
    const [mine, theirs] = [readFileSync(ours), readFileSync(join(folder, 'theirs'))];
    const entryEnd = 1024 + 8192;
    expect(theirs.length).toBeGreaterThanOrEqual(entryEnd);
    const withoutCount = (log: Buffer) => Buffer.concat([log.subarray(0, 16), log.subarray(24, entryEnd)]);
    expect(withoutCount(mine).equals(withoutCount(theirs))).toBe(true);
  });

  test('the trace log of its tools', async () => {
    const folder = testDirectory();
    sparseFile(folder, 64 * MIB);
    const done = tryTool('qemu-io', ['-T', 'blk_co_*', '-f', 'raw', ...COMMANDS, 'disk'], folder);
    const { requests, format } = await readWhole(temporaryFile(done.stderr));
    expect(format).toBe('qemu-trace-log');
    expect(operations(requests)).toEqual([
      'write 0 4096',
      'write 65536 4096 fua',
      'write-zeroes 262144 65536',
      'write-zeroes 1048576 65536 unmap',
      'read 512 1024',
    ]);
  });
});

const noBlkparse = reasonToSkip('blkparse');
describe.skipIf(noBlkparse !== undefined)(
  `blkparse${noBlkparse === undefined ? '' : ` (${noBlkparse})`}`,
  () => {
    const kinds: readonly (readonly BlktraceCategory[])[] = [
      ['read'],
      ['read', 'ahead'],
      ['write'],
      ['write', 'sync'],
      ['write', 'fua'],
      ['write', 'flush'],
      ['write', 'flush', 'fua', 'meta'],
      ['write', 'discard'],
    ];
    const event = fc.record({
      category: fc.constantFrom(...kinds),
      sector: fc.integer({ min: 0, max: 2 ** 40 }),
      sectors: fc.integer({ min: 0, max: 4096 }),
      action: fc.constantFrom(1, 1, 4, 6, 7, 8, 12),
      wait: fc.integer({ min: 1, max: 1_000_000 }),
      cpu: fc.integer({ min: 0, max: 2 }),
    });

    test('its text of a binary trace means the same requests as the trace', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 60 }), async (list) => {
          const folder = testDirectory();
          let timeNs = 5_000_000_000;
          // blkparse looks for that of CPU 0 and goes on from there.
          const files = new Map<number, Buffer[]>([0, 1, 2].map((cpu) => [cpu, []]));
          for (const [sequence, { category, sector, sectors, action, wait, cpu }] of list.entries()) {
            timeNs += wait;
            const made = {
              timeNs,
              category,
              sector,
              bytes: sectors * 512,
              action,
              cpu,
              sequence: sequence + 1,
            };
            files.set(cpu, [...(files.get(cpu) ?? []), blktraceEvent(made)]);
          }
          for (const [cpu, events] of files) {
            writeFileSync(join(folder, `t.blktrace.${String(cpu)}`), Buffer.concat(events));
          }
          const binary = await requestsIn(join(folder, 't'));
          const text = runTool('blkparse', ['-i', 't'], folder);
          const printed = await requestsIn(temporaryFile(text), { format: 'blkparse' });
          expect(printed).toEqual(binary);
        }),
        { numRuns: 25 },
      );
    });
  },
);

/**
 * `/sys/kernel/tracing/trace` with the tracer `blk` and the option `blk_classic`, of a loop device
 * on Linux 6.18.
 */
const FTRACE = `# tracer: blk
#
# DEV   CPU TIMESTAMP     PID ACT FLG
#  |     |     |           |   |   |
  7,0    1   796.229243922 23159  Q  WS 0 + 8 [dd]
  7,0    1   796.230141561 23159  G  WS 0 + 8 [dd]
  7,0    1   796.230142672 23159  P   N [dd]
  7,0    1   796.230143173 23159  U   N [dd] 1
  7,0    1   796.230144215 23159  D  WS 0 + 8 [dd]
  7,0    0   796.230201405    14  C  WS 0 + 8 [0]
  7,0    0   796.231803926 23160  Q WFS 80 + 8 [dd]
  7,0    0   796.231834251    44  D  FN [kworker/0:1H]
  7,0    1   796.232216301    22  C  FN 0 [0]
  7,0    1   796.232217693    22  C  WS 80 [0]
  7,0    0   796.232245300 23160  Q FWS [dd]
  7,0    0   796.232251639    44  D  FN [kworker/0:1H]
  7,0    1   796.347919998 23203  Q  RA 130944 + 8 [blkdiscard]
`;

test('the text of ftrace, which has no sequence numbers', async () => {
  const { requests, format } = await readWhole(temporaryFile(FTRACE));
  expect(format).toBe('blkparse');
  expect(operations(requests)).toEqual([
    'write 0 4096',
    'write 40960 4096 fua',
    'flush',
    'read 67043328 4096',
  ]);
  expect(requests[1]?.timeNs).toBe(2_560_004);
});

test('a log as the kernel lays it out is read by entries, whatever its data holds', async () => {
  const log = dmLog({ sectorSize: 512 }, [{ sector: 1, sectors: 3, flags: 2 }]);
  expect(operations((await readWhole(temporaryFile(log))).requests)).toEqual(['write 512 1536 fua']);
});
