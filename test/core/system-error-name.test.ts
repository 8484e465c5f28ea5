import { constants } from 'node:os';

import { expect, test } from 'vitest';

import { systemCode } from '../../src/core/error.ts';
import { errnoMeaning, errnoName } from '../../src/core/system-error-name.ts';
import { hostError } from '../../src/device/host-error.ts';

/** As Node throws it for an error that libuv does not name; its fast paths have another code. */
function unnamed(errno: number, code = `Unknown system error ${String(-errno)}`): Error {
  return Object.assign(new Error(`${code}: ${code}, write`), { code, errno: -errno, syscall: 'write' });
}

test.runIf(process.platform === 'linux')('a used-up quota is named, and what it means', () => {
  expect(systemCode(unnamed(122))).toBe('EDQUOT');
  expect(systemCode(unnamed(122, 'UNKNOWN'))).toBe('EDQUOT');
  expect(hostError('host-write-failed', { path: 'disk' }, unnamed(122)).message).toBe(
    'disk: a write failed with EDQUOT: the disk quota is used up: free space there or use another directory',
  );
  expect(hostError('host-read-failed', { path: 'disk' }, unnamed(116)).message).toMatch(/ESTALE: .*stale/);
});

test.runIf(process.platform === 'linux')(
  'every error number of the system has its own name and a meaning',
  () => {
    // Two are other names of a number; IDs and messages of System V queues and STREAMS are not of
    // files.
    const others = ['EWOULDBLOCK', 'EOPNOTSUPP', 'EDEADLK'];
    for (const [name, errno] of Object.entries(constants.errno)) {
      const named = errnoName(errno);
      expect(named, name).not.toMatch(/unknown|errno/i);
      if (!others.includes(name)) expect(named).toBe(name);
      expect(errnoMeaning(named), name).toBeDefined();
    }
  },
);

test('a number without a name is given as a number', () => {
  expect(errnoName(4000)).toBe('errno 4000');
});
