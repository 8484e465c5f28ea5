import { afterEach, expect, test } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import { traceSteps } from '../../src/bench/step-trace.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { mixedSource, smallMatrix } from './small-run.ts';

afterEach(() => {
  traceSteps(undefined);
});

test('a trace has each guest request, then the host operations that it leads to, as the host log has them', async () => {
  const [plan] = smallMatrix({ sources: [mixedSource()], formats: ['qcow2'], caches: ['none'] });
  if (plan === undefined) throw new Error('no cell was planned');
  const untraced = await new BuiltinEngine().count(plan, {});
  const lines: string[] = [];
  traceSteps((line) => lines.push(line));
  const records: HostLogRecord[] = [];
  const { counts } = await new BuiltinEngine().count(plan, { hostLog: (record) => records.push(record) });
  expect(counts).toEqual(untraced.counts);

  // Preparing the files is traced too; the counted pass opens the image last.
  const counted = lines.slice(lines.lastIndexOf('open  image     read         0x0 +512  header'));
  const guest = counted.filter((line) => line.split(/ +/)[1] === 'guest');
  const { reads, writes, flushes, discards, writeZeroes } = counts.guest;
  expect(guest).toHaveLength(reads + writes + flushes + discards + writeZeroes);
  expect(counted).toHaveLength(guest.length + records.length);
  const [phase, file, op, ...rest] = (counted.at(-1) ?? '').split(/ +/);
  expect({ phase, file, op, cause: rest.join(' ') }).toEqual(records.at(-1));
  expect(counted.findIndex((line) => line.startsWith('run'))).toBe(counted.indexOf(guest[0] ?? ''));
});
