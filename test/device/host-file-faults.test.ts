/** What a host file does when the system takes less than it was given, or fails to sync. */

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HostFile } from '../../src/device/host-file.ts';
import { systemError } from '../../src/device/host-error.ts';
import { testDirectory } from '../test-directory.ts';

type Call = 'readSync' | 'writeSync' | 'writevSync' | 'fdatasyncSync';

/** Watches a call of `node:fs` in every module that imports it. */
function watched<Name extends Call>(name: Name) {
  const spy = vi.spyOn(fs, name);
  syncBuiltinESMExports();
  return spy;
}

let directory = '';
let device: HostFile;
beforeEach(() => {
  directory = testDirectory();
  device = new HostFile(join(directory, 'file'), { label: 'image', create: 'new', canZeroRange: false });
});
afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  device.close();
});

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index % 251);
const stored = (): Buffer => fs.readFileSync(join(directory, 'file'));

/** `call`, but handling at most 7 bytes at a time. */
function shortened(call: unknown): never {
  const whole = call as (...args: [number, Uint8Array, number, number, number]) => number;
  const short: typeof whole = (fd, bytes, from, length, at) =>
    whole(fd, bytes, from, Math.min(length, 7), at);
  return short as never;
}

test('a short write is carried on from where it stopped', () => {
  const { writeSync: whole } = fs;
  const writeSync = watched('writeSync').mockImplementation(shortened(whole));
  device.write(3, counting(50), 'data');
  expect(device.size()).toBe(53);
  expect([...stored().subarray(3)]).toEqual([...counting(50)]);
  expect(writeSync).toHaveBeenCalledTimes(8);
});

test.each([0, 1, 9, 10, 15, 29])(
  'a merged write cut after %i bytes is carried on in the right part',
  (cut) => {
    watched('writevSync').mockImplementation((fd, buffers, at) => {
      const all = Buffer.concat(buffers as Uint8Array[]);
      if (cut > 0) fs.writeSync(fd, all, 0, cut, at);
      return cut;
    });
    device.writeMerged(5, [
      { purpose: 'cow', bytes: counting(30).subarray(0, 10) },
      { purpose: 'data', bytes: counting(30).subarray(10, 12) },
      { purpose: 'cow', bytes: counting(30).subarray(12) },
    ]);
    expect(device.size()).toBe(35);
    expect([...stored().subarray(5)]).toEqual([...counting(30)]);
  },
);

test('a short read is carried on', () => {
  device.write(0, counting(50), 'data');
  const { readSync: whole } = fs;
  const readSync = watched('readSync').mockImplementation(shortened(whole));
  const target = new Uint8Array(60).fill(9);
  device.read(0, target, 'data');
  expect([...target]).toEqual([...counting(50), ...new Uint8Array(10)]);
  expect(readSync).toHaveBeenCalled();
});

test('after one failed fdatasync every later one fails, without asking the system', () => {
  const fdatasyncSync = watched('fdatasyncSync').mockImplementationOnce(() => {
    throw systemError('EIO', 'fdatasync');
  });
  expect(() => device.sync('guest-flush')).toThrow('making the file durable (fdatasync) failed with EIO');
  expect(() => device.sync('guest-flush')).toThrow('EIO');
  expect(fdatasyncSync).toHaveBeenCalledTimes(1);
});
