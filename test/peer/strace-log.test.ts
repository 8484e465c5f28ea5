/**
 * What strace prints, recorded from QEMU 7.2 under strace 6.1, is read into operations in order of
 * issue.
 */

import { expect, test } from 'vitest';

import { formatOperation } from '../../src/peer/compare-operations.ts';
import { StraceLogParser } from '../../src/peer/strace-log.ts';

const MARK = '--- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=6217, si_uid=0} ---';

interface Recorded {
  readonly requests: number;
  readonly files?: Readonly<Record<string, string>>;
}

function parse(text: string, { requests, files = { image: '/images/a b.qcow2' } }: Recorded) {
  const parser = new StraceLogParser({ files, mark: 'SIGURG', requests });
  for (const line of text.trim().split('\n')) parser.push(line.trim());
  return parser.finish();
}

test('open, each request and close are distinguished by the marks', () => {
  const operations = parse(
    `
    6217  pread64(4</images/a b.qcow2>, 0x559fabb38000, 1, 0) = -1 EINVAL (Invalid argument)
    6217  pread64(4</images/a b.qcow2>, "QFI\\373"..., 512, 0) = 512
    6219  pread64(4</images/a b.qcow2>, "\\0\\0\\0\\0"..., 512, 196608) = 16
    6219  pread64(4</images/a b.qcow2>, "", 496, 196624) = 0
    6217  ${MARK}
    6220  pwrite64(4</images/a b.qcow2>, "\\0\\1\\0\\1"..., 65536, 131072) = 65536
    6219  fdatasync(4</images/a b.qcow2>)   = 0
    6217  ${MARK}
    6219  fallocate(4</images/a b.qcow2>, FALLOC_FL_ZERO_RANGE, 327680, 65536) = 0
    6217  ${MARK}
    6220  ftruncate(4</images/a b.qcow2>, 1048576) = 0
    6219  fsync(4</images/a b.qcow2>)   = 0
    `,
    { requests: 2 },
  );
  expect(operations.map(({ phase, request, ...rest }) => [phase, request, formatOperation(rest)])).toEqual([
    ['open', undefined, 'R 0x30000 512'],
    ['run', 0, 'W 0x20000 65536'],
    ['run', 0, 'F'],
    ['run', 1, 'Z 0x50000 65536'],
    ['close', undefined, 'T 0x100000'],
    ['close', undefined, 'F'],
  ]);
});

test('a call that another thread interrupts is placed where it was issued', () => {
  const operations = parse(
    `
    6217  ${MARK}
    6220  pwrite64(4</images/a b.qcow2>, "\\315\\315\\315\\315"..., 65536, 393216 <unfinished ...>
    6219  pwrite64(4</images/a b.qcow2>, "\\315\\315\\315\\315"..., 65536, 458752) = 65536
    6219  pread64(4</images/a b.qcow2>,  <unfinished ...>
    6220  <... pwrite64 resumed>)           = 65536
    6221  pwrite64(4</images/a b.qcow2>, "\\315\\315\\315\\315"..., 65536, 524288) = 65536
    6219  <... pread64 resumed>"\\0\\0\\0\\0"..., 512, 512) = 512
    6217  ${MARK}
    `,
    { requests: 1 },
  );
  expect(operations.map(formatOperation)).toEqual([
    'W 0x60000 65536',
    'W 0x70000 65536',
    'R 0x200 512',
    'W 0x80000 65536',
  ]);
});

test('a call belongs to the request that issued it, however late it ends', () => {
  const operations = parse(
    `
    6217  ${MARK}
    6220  fallocate(4</images/a b.qcow2>, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0, 65536 <unfinished ...>
    6217  ${MARK}
    6220  <... fallocate resumed>)          = 0
    6217  ${MARK}
    `,
    { requests: 2 },
  );
  expect(operations.map(({ request, op }) => [request, op])).toEqual([[0, 'punch-hole']]);
});

test('a merged write is as long as its buffers together', () => {
  const operations = parse(
    `
    6217  ${MARK}
    6220  pwritev(4</images/a b.qcow2>, [{iov_base="\\t\\t\\t\\t"..., iov_len=28672}, {iov_base="\\315"..., iov_len=4096}, {iov_base="\\t\\t"..., iov_len=32768}], 3, 327680) = 65536
    6220  pwritev2(4</images/a b.qcow2>, [{iov_base="\\t\\t\\t\\t"..., iov_len=4096}], 1, 8192, RWF_DSYNC) = 4096
    6217  ${MARK}
    `,
    { requests: 1 },
  );
  expect(operations.map(formatOperation)).toEqual(['W 0x50000 65536', 'W 0x2000 4096']);
});

test('failed calls keep their error', () => {
  const operations = parse(
    `
    6217  ${MARK}
    6237  fallocate(4</images/a b.qcow2>, FALLOC_FL_ZERO_RANGE, 327680, 65536) = -1 EOPNOTSUPP (Operation not supported)
    6237  fallocate(4</images/a b.qcow2>, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 327680, 65536) = 0
    6237  fallocate(4</images/a b.qcow2>, 0, 327680, 65536) = -1 EOPNOTSUPP (Operation not supported) (INJECTED)
    6217  ${MARK}
    `,
    { requests: 1 },
  );
  expect(operations.map((operation) => [formatOperation(operation), operation.error])).toEqual([
    ['Z 0x50000 65536', 'EOPNOTSUPP'],
    ['P 0x50000 65536', undefined],
    ['A 0x50000 65536', 'EOPNOTSUPP'],
  ]);
});

test('files that are not of the image are left out, those that are carry their name', () => {
  const operations = parse(
    `
    6217  pread64(3</usr/lib/x86_64-linux-gnu/libc.so.6>, "\\177ELF"..., 784, 64) = 784
    6217  ${MARK}
    6219  pread64(8</images/base <\\303\\244\\76.raw>, "\\t\\t\\t\\t"..., 65536, 0) = 65536
    6217  ${MARK}
    `.replace('base <', 'base \\74'),
    { requests: 1, files: { image: '/images/a b.qcow2', 'backing:0': '/images/base <ä>.raw' } },
  );
  expect(operations.map(formatOperation)).toEqual(['R 0x0 65536 (backing:0)']);
});

test.each([
  [
    'a mode of fallocate that is not known',
    '7 fallocate(4</images/a b.qcow2>, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) = 0',
  ],
  [
    'a call on the image that is not known',
    '7 copy_file_range(4</images/a b.qcow2>, [0], 5, [0], 4096, 0) = 4096',
  ],
  [
    'a list of buffers cut short',
    '7 pwritev(4</images/a b.qcow2>, [{iov_base="", iov_len=1}, ...], 9, 0) = 4096',
  ],
  ['a resumed call without its beginning', '7 <... pwrite64 resumed>) = 4096'],
  ['a line without a process id', 'strace: Process 7 attached'],
])('%s is an error with its line, never skipped', (_, line) => {
  expect(() => parse(`7 ${MARK}\n${line}\n7 ${MARK}`, { requests: 1 })).toThrow(
    expect.objectContaining({ code: 'peer-bad-trace', line: 2 }),
  );
});

test('a trace that lacks marks is an error', () => {
  expect(() => parse(`7 ${MARK}`, { requests: 1 })).toThrow(/1 marks, not 2/);
});
