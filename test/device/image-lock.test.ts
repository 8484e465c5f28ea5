import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { systemError } from '../../src/device/host-error.ts';
import { HostFile } from '../../src/device/host-file.ts';
import { lockImage, watchUnlockedWrites, type LockRole } from '../../src/device/image-lock.ts';
import { loadOfdLocks, type LoadedOfdLocks } from '../../src/device/ofd-lock.ts';
import { owned } from '../owned-process.ts';
import { testDirectory } from '../test-directory.ts';
import { codeOf } from './error-code.ts';

const directory = testDirectory();
const path = join(directory, 'image');

const ROLES = {
  'read metadata': { kind: 'user', contents: 'metadata', readOnly: true },
  'write metadata': { kind: 'user', contents: 'metadata', readOnly: false },
  'read raw': { kind: 'user', contents: 'raw', readOnly: true },
  'write raw': { kind: 'user', contents: 'raw', readOnly: false },
  'read data': { kind: 'user', contents: 'data', readOnly: true },
  'write data': { kind: 'user', contents: 'data', readOnly: false },
  'shared reader': { kind: 'shared-reader' },
  copier: { kind: 'copier' },
  replacer: { kind: 'replacer' },
} as const satisfies Readonly<Record<string, LockRole>>;
type RoleName = keyof typeof ROLES;

/**
 * What QEMU 7.2 locks, but for the copier, as `/proc/locks` shows it: qemu-nbd with and without -r,
 * qemu-io -U, qemu-img create.
 */
const BYTES: Readonly<Record<RoleName, readonly number[]>> = {
  'read metadata': [100, 201, 203],
  'write metadata': [100, 101, 103, 201, 203],
  'read raw': [100, 203],
  'write raw': [100, 101, 203],
  'read data': [100, 203],
  'write data': [100, 101, 103, 203],
  'shared reader': [100],
  // As a reader of metadata, whatever the file holds.
  copier: [100, 201, 203],
  replacer: [101, 103, 203],
};

/** Who is let in beside whom. */
const BESIDE: Readonly<Record<RoleName, readonly RoleName[]>> = {
  'read metadata': ['read metadata', 'read raw', 'read data', 'shared reader', 'copier'],
  'write metadata': ['shared reader'],
  'read raw': ['read metadata', 'read raw', 'write raw', 'read data', 'shared reader', 'copier'],
  'write raw': ['read raw', 'write raw', 'read data', 'shared reader'],
  'read data': ['read metadata', 'read raw', 'write raw', 'read data', 'shared reader', 'copier'],
  'write data': ['shared reader'],
  'shared reader': Object.keys(ROLES) as RoleName[],
  copier: ['read metadata', 'read raw', 'read data', 'shared reader', 'copier'],
  replacer: ['shared reader'],
};

function open(lock: LockRole, create: 'existing' | 'overwrite' = 'existing'): HostFile {
  return new HostFile(path, { label: 'image', lock, create });
}

function lockedBytes(fd: number): number[] {
  const lines = readFileSync(`/proc/self/fdinfo/${String(fd)}`, 'latin1').matchAll(
    /^lock:.*OFDLCK.*READ.* (\d+) (\d+)$/gm,
  );
  return [...lines].flatMap(([, first, last]) => {
    const from = Number(first);
    return Array.from({ length: Number(last) - from + 1 }, (_, index) => from + index);
  });
}

const loaded = loadOfdLocks();

describe.skipIf(!loaded.ok)(`locks of images${loaded.ok ? '' : ` (${loaded.reason})`}`, () => {
  test.each(Object.keys(ROLES) as RoleName[])('%s: the bytes that QEMU locks', (name) => {
    writeFileSync(path, 'kept');
    using file = open(ROLES[name]);
    expect(lockedBytes(file.fd)).toEqual(BYTES[name]);
  });

  const pairs = (Object.keys(ROLES) as RoleName[]).flatMap((holder) =>
    (Object.keys(ROLES) as RoleName[]).map((comer) => ({ holder, comer })),
  );
  test.each(pairs)('$comer beside $holder', ({ holder, comer }) => {
    writeFileSync(path, 'kept');
    using first = open(ROLES[holder]);
    const wanted = BESIDE[holder].includes(comer) ? undefined : 'image-locked';
    expect(codeOf(() => open(ROLES[comer]).close())).toBe(wanted);
    first.close();
    expect(codeOf(() => open(ROLES[comer]).close())).toBeUndefined();
  });

  test('a file in use is not emptied', () => {
    writeFileSync(path, 'kept');
    using reader = open(ROLES['read metadata']);
    expect(codeOf(() => open(ROLES.replacer, 'overwrite'))).toBe('image-locked');
    expect(readFileSync(path, 'utf8')).toBe('kept');
    expect(reader.size()).toBe(4);
  });

  test('the error names the process that has the file; a killed one leaves no lock', async () => {
    writeFileSync(path, 'kept');
    const words = ['--input-type=module', '--eval', HOLDER, path];
    const holder = owned(spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] }));
    await once(holder.stdout, 'data');
    let message = '';
    try {
      open(ROLES['write metadata']).close();
    } catch (error) {
      message = String(error);
    }
    expect(message).toContain(`in use: ${basename(process.execPath)} (pid ${String(holder.pid)}) has`);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(codeOf(() => open(ROLES['write metadata']).close())).toBeUndefined();
  });
});

const HOLDER = `
  import { HostFile } from ${JSON.stringify(new URL('../../src/device/host-file.ts', import.meta.url).href)};
  const lock = { kind: 'user', contents: 'metadata', readOnly: false };
  new HostFile(process.argv[1], { label: 'image', lock });
  console.log('open');
  setInterval(() => undefined, 1000);
`;

describe('where there are no such locks', () => {
  const refusing = (code: string): LoadedOfdLocks => {
    const refuse = (): never => {
      throw systemError(code, 'fcntl');
    };
    return { ok: true, locks: { readLock: refuse, writeLock: refuse, isLockedElsewhere: refuse } };
  };
  const notes: string[] = [];
  const note = (path: string, reason: string): void => void notes.push(`${path}: ${reason}`);

  test.each(['EINVAL', 'ENOLCK', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'])('%s is no error', (code) => {
    notes.length = 0;
    watchUnlockedWrites(note);
    lockImage(0, '/x/a', ROLES['read metadata'], refusing(code));
    expect(notes).toEqual([]);
    for (const file of ['/x/b', '/x/c']) lockImage(0, file, ROLES['write metadata'], refusing(code));
    expect(notes).toEqual([`/x/b: its file system answers ${code}`]);
  });

  test('without the binding its reason is reported', () => {
    notes.length = 0;
    watchUnlockedWrites(note);
    lockImage(0, '/x/b', ROLES.replacer, { ok: false, reason: 'win32 has none' });
    expect(notes).toEqual(['/x/b: win32 has none']);
  });

  test('another failure is an error', () => {
    expect(codeOf(() => lockImage(0, '/x/a', ROLES.replacer, refusing('EIO')))).toBe('host-open-failed');
  });
});
