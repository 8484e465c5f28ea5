/** The system calls of a host file, as the kernel sees them: strace is the witness. */

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { testDirectory } from '../test-directory.ts';

const directory = testDirectory();
const { direct, zeroRange } = probeCapabilities(directory);
const program = join(import.meta.dirname, 'host-calls.ts');
const hasStrace = spawnSync('strace', ['-V']).status === 0;

/** Calls on the image file between its opening and its end, as `name rest`, without data. */
function callsOf(mode: 'buffered' | 'direct'): { openFlags: string; calls: string[] } {
  const image = join(directory, `${mode}.img`);
  const trace = join(directory, `${mode}.strace`);
  const calls = 'trace=openat,pread64,pwrite64,pwritev,fallocate,ftruncate,fdatasync,fsync';
  const words = ['-f', '-s', '0', '-e', calls, '-o', trace, process.execPath, program, image, mode];
  // The cache is written at the end, to a file with the descriptor that the image had.
  execFileSync('strace', words, { env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1' } });
  const lines = readFileSync(trace, 'utf8').split('\n');
  const opened = lines.findIndex((line) => line.includes(`"${image}"`));
  const [, flags = '', fd = ''] = /, (O_[A-Z_|]+).* = (\d+)$/.exec(lines[opened] ?? '') ?? [];
  const found = lines
    .slice(opened + 1)
    .map((line) => /^\d+ +(\w+)\((\d+)(?:, )?(.*)\) += (.+)$/.exec(line))
    .filter((match) => match?.[2] === fd)
    .map(
      (match) =>
        `${match?.[1] ?? ''} ${(match?.[3] ?? '').replace(/""(\.\.\.)?, /, '')} = ${match?.[4] ?? ''}`,
    );
  return { openFlags: flags, calls: found };
}

const MERGED = 'pwritev [...], 3, 65536 = 65536';
const END = [
  'fallocate FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0, 4096 = 0',
  'ftruncate 1048576 = 0',
  'fdatasync  = 0',
];

describe.runIf(process.platform === 'linux' && hasStrace && zeroRange.ok)(
  'one request is one system call',
  () => {
    test('buffered', () => {
      const { openFlags, calls } = callsOf('buffered');
      expect(openFlags).toBe('O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC');
      expect(calls).toEqual([
        'fallocate FALLOC_FL_ZERO_RANGE, 0, 65536 = 0',
        'pwrite64 4096, 4096 = 4096',
        'pwrite64 4096, 8192 = 4096',
        'pwrite64 8, 72 = 8',
        MERGED,
        'pread64 512, 0 = 512',
        ...END,
      ]);
    });

    test.runIf(direct.ok && direct.alignment === 512)('with O_DIRECT, never buffered', () => {
      const { openFlags, calls } = callsOf('direct');
      expect(openFlags).toBe('O_RDWR|O_CREAT|O_EXCL|O_DIRECT|O_CLOEXEC');
      // The first read is the probe of the alignment: an empty file does not report it.
      expect(calls).toEqual([
        'pread64 1, 0 = 0',
        'fallocate FALLOC_FL_ZERO_RANGE, 0, 65536 = 0',
        'pwrite64 4096, 4096 = 4096',
        'pwrite64 4096, 8192 = 4096',
        'pread64 4096, 0 = 4096',
        'pwrite64 4096, 0 = 4096',
        MERGED,
        'pread64 4096, 0 = 4096',
        ...END,
      ]);
    });
  },
);
