/** Logs of strace that someone else took: their layouts, how requests are marked, what is refused. */

import { describe, expect, test } from 'vitest';

import { readForeignStrace, type ForeignTrace } from '../../src/peer/foreign-strace.ts';
import type { Request } from '../../src/workload/request.ts';

const WRITE: Request = { op: 'write', offset: 0x10000, length: 4096, fua: false, unmap: false, timeNs: 0 };
const FLUSH: Request = { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 };
const FILES = { image: '/vm/disk.qcow2' };

function read(lines: readonly string[], expected?: readonly Request[]): ForeignTrace {
  return readForeignStrace(lines, { files: FILES, expected, path: 'log' });
}

/** Operations as text, with their phase or request. */
function shown({ operations }: ForeignTrace): readonly string[] {
  return operations.map(({ phase, request, op, offset, length }) => {
    const place = request === undefined ? phase : String(request);
    return `${place}: ${op} ${String(offset)}+${String(length)}`;
  });
}

/** A header as a server receives it, in strace's octal escapes. */
function header(type: number, { offset = 0, length = 0, flags = 0 } = {}): string {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return escaped(bytes);
}

function escaped(bytes: Uint8Array): string {
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
}

const MARK = '7 --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=7, si_uid=0} ---';
const FD = '5</vm/disk.qcow2>';
const MARKED = [
  `7 pread64(${FD}, "QFI\\373"..., 4096, 0) = 4096`,
  MARK,
  `8 pwrite64(${FD}, "\\1\\1"..., 4096, 327680) = 4096`,
  MARK,
  `9 fdatasync(${FD}) = 0`,
  MARK,
  `7 fsync(${FD}) = 0`,
  '7 +++ exited with 0 +++',
];
const OPERATIONS = ['open: read 0+4096', '0: write 327680+4096', '1: sync 0+0', 'close: sync 0+0'];

describe('marks', () => {
  test('a signal before each request and one after the last', () => {
    expect(shown(read(MARKED, [WRITE, FLUSH]))).toEqual(OPERATIONS);
  });

  test('headers that an NBD server receives; data that looks like one is none', () => {
    const write = header(1, { offset: 0x10000, length: 4096 });
    const log = [
      `7 pread64(${FD}, "QFI\\373"..., 4096, 0) = 4096`,
      `7 recvmsg(9<socket:[1]>, {msg_name=NULL, msg_iov=[{iov_base="${write}", iov_len=28}]}, 0) = 28`,
      `7 recvmsg(9<socket:[1]>, {msg_name=NULL, msg_iov=[{iov_base="${header(3)}"..., iov_len=4096}]}, 0) = 4096`,
      `8 pwrite64(${FD}, "\\1\\1"..., 4096, 327680) = 4096`,
      // Block status: none of data.
      `7 read(9<socket:[1]>, "${header(7, { length: 512 })}", 28) = 28`,
      `7 read(9<socket:[1]>,  <unfinished ...>`,
      `7 <... read resumed>"${header(3)}", 28) = 28`,
      `9 fdatasync(${FD}) = 0`,
      `7 recvfrom(9<socket:[1]>, "${header(2)}", 28, 0, NULL, NULL) = 28`,
      `7 fsync(${FD}) = 0`,
    ];
    const trace = read(log);
    expect(shown(trace)).toEqual(OPERATIONS);
    expect(trace.requests).toEqual([WRITE, FLUSH]);
    expect(shown(read(log, [WRITE, FLUSH]))).toEqual(OPERATIONS);
    // The flush by which a client leaves is of the close.
    expect(shown(read(log, [WRITE]))).toEqual([
      'open: read 0+4096',
      '0: write 327680+4096',
      'close: sync 0+0',
      'close: sync 0+0',
    ]);
  });

  test('extended headers, FUA, zeroes that may be unmapped; another client after the first', () => {
    const bytes = Buffer.alloc(32);
    bytes.writeUInt32BE(0x21e41c71, 0);
    bytes.writeUInt16BE(1, 4);
    bytes.writeUInt16BE(6, 6);
    bytes.writeBigUInt64BE(65_536n, 16);
    bytes.writeBigUInt64BE(8_589_934_592n, 24);
    const { requests } = read([
      `7 read(9, "${escaped(bytes)}", 32) = 32`,
      `7 read(9, "${header(2)}", 28) = 28`,
      `7 read(9, "${header(4, { offset: 512, length: 512, flags: 1 })}", 28) = 28`,
      `7 fdatasync(${FD}) = 0`,
    ]);
    expect(requests).toEqual([
      { op: 'write-zeroes', offset: 65_536, length: 8_589_934_592, fua: true, unmap: true, timeNs: 0 },
      { op: 'discard', offset: 512, length: 512, fua: false, unmap: false, timeNs: 0 },
    ]);
  });
});

test('a client that left before another came is no end of the run', () => {
  const log = [
    `7 read(9, "${header(3)}", 28) = 28`,
    `7 read(9, "${header(2)}", 28) = 28`,
    `7 read(9, "${header(1, { offset: 0x10000, length: 4096 })}", 28) = 28`,
    `8 pwrite64(${FD}, "\\1\\1"..., 4096, 327680) = 4096`,
    `7 read(10, "${header(2)}", 28) = 28`,
    `7 fsync(${FD}) = 0`,
  ];
  expect(shown(read(log))).toEqual(['1: write 327680+4096', 'close: sync 0+0']);
});

describe('layouts of strace', () => {
  const own = (change: (line: string) => string): readonly string[] => MARKED.map(change);
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['-tt', own((line) => line.replace(' ', ' 12:00:01.123456 '))],
    ['-ttt', own((line) => line.replace(' ', ' 1700000000.123456 '))],
    ['-r', own((line) => line.replace(' ', '      0.000123 '))],
    ['without -o', own((line) => line.replace(/^(\d+) /, '[pid    $1] '))],
    ['-T', own((line) => (line.endsWith('---') ? line : `${line} <0.000123>`))],
    ['without -f', own((line) => line.replace(/^\d+ /, ''))],
    [
      'without -y',
      [
        '7 openat(AT_FDCWD, "/vm/disk.qcow2", O_RDWR|O_CLOEXEC) = 4',
        '7 dup(4) = 5',
        '7 close(4) = 0',
        '7 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 4',
        '7 pread64(4, "root"..., 4096, 0) = 4096',
        ...own((line) => line.replace(FD, '5')),
      ],
    ],
    ['of another folder', own((line) => line.replace('/vm/', '/somewhere/else/'))],
    ['of a file that was removed', own((line) => line.replace('qcow2>', 'qcow2 (deleted)>'))],
    [
      'calls of threads that overlap',
      [
        ...MARKED.slice(0, 2),
        `8 pwrite64(${FD}, "\\1\\1"..., 4096, 327680 <unfinished ...>`,
        '7 read(3<anon_inode:[eventfd]>, "\\1", 8) = 8',
        '8 <... pwrite64 resumed>) = 4096',
        ...MARKED.slice(3),
      ],
    ],
  ];

  test.each(cases)('%s', (_, lines) => {
    expect(shown(read(lines, [WRITE, FLUSH]))).toEqual(OPERATIONS);
  });

  test('a write that is durable by its flag is a write and a sync', () => {
    const lines = [
      MARK,
      `7 pwritev2(${FD}, [{iov_base="\\1"..., iov_len=512}], 1, 0, RWF_DSYNC) = 512`,
      MARK,
    ];
    expect(shown(read(lines, [WRITE]))).toEqual(['0: write 0+512', '0: sync 0+0']);
  });
});

describe('what is refused', () => {
  const insert = (line: string): readonly string[] => [...MARKED.slice(0, 2), line, ...MARKED.slice(2)];
  const cases: readonly (readonly [string, readonly string[], RegExp])[] = [
    [
      'io_uring',
      insert('7 io_uring_enter(6, 1, 0, 0, NULL, 8) = 1'),
      /log, line 3: the process used io_uring/,
    ],
    ['libaio', insert('7 io_submit(0x7f, 1, [{aio_fildes=5}]) = 1'), /used libaio \(io_submit\).*JSON Lines/],
    ['a file position', insert(`7 write(${FD}, "x", 512) = 512`), /line 3: write on the image .*use pwrite/],
    [
      'a shared mapping',
      insert(`7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, ${FD}, 0) = 0x7f`),
      /line 3: mmap on the image maps/,
    ],
    [
      'O_DSYNC',
      insert('7 openat(AT_FDCWD, "/vm/disk.qcow2", O_RDWR|O_DSYNC) = 5'),
      /line 3: opens .* O_DSYNC/,
    ],
    [
      'a descriptor that is never opened',
      MARKED.map((line) => line.replace(FD, '5')),
      /line 1: .*descriptor 5/,
    ],
    ['another image', MARKED.map((line) => line.replace('disk', 'other')), /no call on .*other\.qcow2/],
    ['no marks', MARKED.filter((line) => line !== MARK), /does not show where requests begin/],
    ['too few marks', MARKED.filter((_, at) => at !== 3), /has 2 marks, but 2 requests need 3/],
    ['a call that does not end', insert(`8 pwrite64(${FD}, "\\1"..., 512, 0 <unfinished ...>`), /truncated/],
    ['a line of something else', insert('hello'), /log, line 3: is no line of strace: hello/],
    [
      'a call that strace cut short',
      insert(`7 pwritev(${FD}, [{iov_len=1}, ...], 9, 0) = 9`),
      /line 3: .*cut short/,
    ],
    [
      'a header that is cut',
      [`7 read(9, "${header(0).slice(0, 80)}"..., 28) = 28`],
      /line 1: a header of NBD is truncated after 20 bytes: run strace with -s 32/,
    ],
  ];

  test.each(cases)('%s', (_, lines, message) => {
    expect(() => read(lines, [WRITE, FLUSH])).toThrow(message);
  });

  test('requests that do not fit, each with its number', () => {
    const log = [
      `7 read(9, "${header(0, { offset: 512, length: 512 })}", 28) = 28`,
      `7 read(9, "${header(3)}", 28) = 28`,
      `7 fdatasync(${FD}) = 0`,
    ];
    const first: Request = { ...WRITE, op: 'read', offset: 512, length: 512 };
    expect(() => read(log, [WRITE])).toThrow(
      /request 0 is a write of 4096 bytes at 0x10000, but the log has a read of 512 bytes at 0x200 there/,
    );
    expect(() => read(log, [first, FLUSH, WRITE])).toThrow(
      /request 2 is a write .*, but the log ends before it/,
    );
    expect(() => read([...log, log[0] ?? ''], [first])).toThrow(/has 3 requests, but --requests has 1/);
    expect(() => read(MARKED)).toThrow(/has 2 marked requests, and does not show which: .*--requests/);
  });
});
