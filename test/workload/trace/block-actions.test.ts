/** Traces of the block layer that were recorded without queue events, as most public ones are. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../../test-directory.ts';
import { blktraceEvent, type BlktraceEvent } from './binary-traces.ts';
import { faultOf, inWords, readWhole, temporaryFile } from './trace-files.ts';

/** `blktrace -a issue -a complete`, as blkparse prints it. */
const ISSUED =
  '  8,0    0        1     0.000000000   100  D   R 88 + 8 [dd]\n' +
  '  8,0    0        2     0.000001000   100  C   R 88 + 8 [0]\n' +
  '  8,0    0        3     0.000002000   100  D  WS 8 + 8 [dd]\n' +
  '  8,0    0        4     0.000003000   100  R  WS 8 + 8 [0]\n' +
  '  8,0    0        5     0.000004000   100  D  WS 8 + 8 [dd]\n' +
  '  8,0    0        6     0.000005000   100  D  FN [kworker/0:1H]\n' +
  '  8,0    0        7     0.000006000   100  D  FN 18446744073709551615 + 0 [kworker/0:1H]\n' +
  '  8,0    0        8     0.000007000   100  D  FN 0 + 0 [kworker/0:1H]\n' +
  '  8,0    0        9     0.000008000   100  C  FN 0 [0]\n' +
  '  8,0    0       10     0.000009000   100  C  WS 8 + 8 [-5]\n' +
  '  8,0    0       11     0.000010000   100  D   D 800 + 128 [fstrim]\n';

const words = async (content: string | Uint8Array, options = {}) =>
  (await readWhole(temporaryFile(content), options)).requests.map(inWords);

describe('which event is taken of a request', () => {
  test('issued, if nothing was queued: each once, flushes with any sector', async () => {
    const trace = await readWhole(temporaryFile(ISSUED));
    expect(trace.action).toBe('D');
    expect(trace.requests.map(inWords)).toEqual([
      'read 45056+4096 @0',
      'write 4096+4096 @2000',
      'flush @5000',
      'flush @6000',
      'flush @7000',
      'discard 409600+65536 @10000',
    ]);
    expect(trace.passedOver).toEqual([
      { what: 'action R', count: 1 },
      { what: 'requests issued again', count: 1 },
      { what: 'action C', count: 3 },
    ]);
  });

  test('a write where a read was requeued is a request of its own', async () => {
    const requeued =
      '  8,0    0        1     0.000000000   100  D   R 8 + 8 [dd]\n' +
      '  8,0    0        2     0.000001000   100  R   R 8 + 8 [0]\n' +
      '  8,0    0        3     0.000002000   100  D  WS 8 + 8 [dd]\n' +
      '  8,0    0        4     0.000003000   100  D   R 8 + 8 [dd]\n';
    const trace = await readWhole(temporaryFile(requeued));
    expect(trace.requests.map(inWords)).toEqual(['read 4096+4096 @0', 'write 4096+4096 @2000']);
    expect(trace.passedOver).toContainEqual({ what: 'requests issued again', count: 1 });
  });

  test('the one that is named: completions have their own times, and some have failed', async () => {
    const trace = await readWhole(temporaryFile(ISSUED), { action: 'C' });
    expect(trace.requests.map(inWords)).toEqual(['read 45056+4096 @0', 'flush @7000']);
    expect(trace.failedCount).toBe(1);
    const none = await faultOf(temporaryFile(ISSUED), { action: 'Q' });
    expect(none.code).toBe('no-requests');
    expect(none.message).toMatch(
      /has no requests of action Q; passed over: action D 7, action C 3, action R 1$/,
    );
  });

  test('queued, wherever the first such event is', async () => {
    const late = `${ISSUED}  8,0    0       12     0.000011000   100  Q   W 0 + 1 [dd]\n`;
    const trace = await readWhole(temporaryFile(late));
    expect(trace.action).toBe('Q');
    expect(trace.requests.map(inWords)).toEqual(['write 0+512 @0']);
    expect(trace.passedOver).toContainEqual({ what: 'action D', count: 7 });
  });

  test('inserted, only if as many are as were issued', async () => {
    const event = (sequence: number, action: string, sector: number) =>
      `  8,0    0 ${String(sequence)}     0.00000000${String(sequence)}   100  ${action}   W ${String(sector)} + 8 [dd]\n`;
    const all = [event(1, 'I', 8), event(2, 'D', 8), event(3, 'I', 16), event(4, 'D', 16)];
    expect((await readWhole(temporaryFile(all.join('')))).action).toBe('I');
    const bypassed = [...all, event(5, 'D', 24)];
    const trace = await readWhole(temporaryFile(bypassed.join('')));
    expect(trace.action).toBe('D');
    expect(trace.requests).toHaveLength(3);
  });

  test('a rule that only an event of another action breaks is not broken', async () => {
    const sized = `  8,0 0 1 0.000000000 100 D R 4096 + 8 [dd]\n  8,0 0 2 0.000000001 100 Q R 8 + 8 [dd]\n`;
    expect(await words(sized, { size: 65536 })).toEqual(['read 4096+4096 @0']);
    const error = await faultOf(temporaryFile(ISSUED), { size: 65536 });
    expect(error.line).toBe(11);
    expect(error.message).toMatch(/past the device's end at 65536/);
  });

  test('a queue event after very many requests without one is an error', async () => {
    const many = Array.from(
      { length: 70_000 },
      (_, n) => `8,0 0 ${String(n)} 0.${String(n).padStart(9, '0')} 1 D W 8 + 8 [x]\n`,
    );
    const error = await faultOf(temporaryFile(`${many.join('')}8,0 0 1 1.000000000 1 Q W 8 + 8 [x]\n`));
    expect(error.line).toBe(70_001);
    expect(error.message).toMatch(
      /an event of action Q after 65536 requests without one; choose .* --action/,
    );
  });

  test('events of other volumes count in no way', async () => {
    const both = `${ISSUED}  8,16    0    1     0.000011000   100  Q   W 0 + 1 [dd]\n`;
    expect((await faultOf(temporaryFile(both))).code).toBe('several-volumes');
    const trace = await readWhole(temporaryFile(both), { volume: '8,0' });
    expect({ action: trace.action, others: trace.otherVolumeCount }).toEqual({ action: 'D', others: 0 });
    expect(trace.requests).toHaveLength(6);
    expect((await readWhole(temporaryFile(both), { volume: '8,16' })).otherVolumeCount).toBe(0);
  });

  test('a format with one event for each request has none to choose', async () => {
    const msr = temporaryFile('128166372003061629,hm,0,Read,383496192,32768,113736\n');
    expect((await faultOf(msr, { action: 'D' })).code).toBe('no-actions');
  });
});

describe('blktrace', () => {
  const at = (timeNs: number, event: Omit<BlktraceEvent, 'timeNs'>) => blktraceEvent({ timeNs, ...event });
  const recorded = (version: 7 | 8, bigEndian = false) => {
    const event = (timeNs: number, rest: Omit<BlktraceEvent, 'timeNs'>) =>
      at(timeNs, { ...rest, version, bigEndian });
    return Buffer.concat([
      event(10, { category: ['write'], sector: 8, bytes: 4096, action: 7, pdu: Buffer.from('abc') }),
      event(20, { category: ['write', 'flush'], sector: 2n ** 64n - 1n, action: 7 }),
      event(30, { category: ['write', 'fua'], sector: 16, bytes: 512, action: 7 }),
      event(40, { category: ['write'], sector: 16, bytes: 512, action: 8 }),
    ]);
  };

  test.each([7, 8] as const)('version %i without queue events, in both byte orders', async (version) => {
    for (const bigEndian of [false, true]) {
      const trace = await readWhole(temporaryFile(recorded(version, bigEndian)));
      expect(trace.action).toBe('D');
      expect(trace.requests.map(inWords)).toEqual([
        'write 4096+4096 @0',
        'flush @10',
        'write 8192+512 @20 fua',
      ]);
    }
  });

  test('a zone append is at the place of its completion, and nowhere else', async () => {
    const append = (timeNs: number, action: number, sector: number) =>
      at(timeNs, { category: ['write', 'zone-append'], sector, bytes: 4096, action, version: 8 });
    const log = Buffer.concat([
      append(10, 1, 0),
      at(20, { category: ['read'], sector: 8, bytes: 512, version: 8 }),
      append(30, 8, 640),
    ]);
    const queued = await readWhole(temporaryFile(log));
    expect(queued.requests.map(inWords)).toEqual(['read 4096+512 @0']);
    expect(queued.passedOver.map(({ what }) => what).join()).toMatch(/zone appends .*--action C/);
    expect(await words(log, { action: 'C' })).toEqual(['write 327680+4096 @0']);
  });

  test('files of several CPUs are merged while the action is not clear', async () => {
    const folder = testDirectory();
    for (const cpu of [0, 1]) {
      const events = Array.from({ length: 3000 }, (_, n) =>
        at(1000 + n * 20 + cpu * 10, {
          category: ['write'],
          sector: 2 * n + cpu,
          bytes: 512,
          action: 7,
          cpu,
        }),
      );
      writeFileSync(join(folder, `t.blktrace.${String(cpu)}`), Buffer.concat(events));
    }
    const { requests } = await readWhole(join(folder, 't'));
    expect(requests).toHaveLength(6000);
    expect(requests.every(({ offset }, n) => offset === n * 512)).toBe(true);
  });
});
