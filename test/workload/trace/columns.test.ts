/** `--columns`: texts of columns that the user describes, and what is wrong with a description. */

import { describe, expect, test } from 'vitest';

import { parseColumns } from '../../../src/workload/trace/column-layout.ts';
import { faultOf, inWords, readWhole, temporaryFile } from './trace-files.ts';

async function read(text: string, columns: string): Promise<readonly string[]> {
  const { requests } = await readWhole(temporaryFile(text), { columns: parseColumns(columns) });
  return requests.map(inWords);
}

describe('a unit of times is exact, with and without decimals', () => {
  test.each([
    ['s', '1700000000.000000001', '1700000001.5', 1_499_999_999],
    ['s', '0', '2', 2e9],
    ['ms', '1700000000000', '1700000000001.000001', 1_000_001],
    ['us', '1700000000000000.5', '1700000000000001', 500],
    ['100ns', '128166372003061629', '128166372003061630', 100],
    ['ns', '1700000000000000000', '1700000000000000001', 1],
    // Beyond the nanosecond decimals are dropped.
    ['s', '0.0000000019', '0.0000000020', 1],
  ])('%s: %s, then %s', async (unit, first, second, difference) => {
    const text = `${first} W 0 512\n${second} W 0 512\n`;
    expect(await read(text, `time=1:${unit},op=2,offset=3,length=4`)).toEqual([
      'write 0+512 @0',
      `write 0+512 @${String(difference)}`,
    ]);
  });
});

test('columns have numbers, count from the end, or have names; separators are found or given', async () => {
  const wanted = ['write 4096+512 @0', 'read 0+4096 @0'];
  const by = 'op=1,offset=3:sectors,length=-1';
  expect(await read('W,x,8,512\nR,x,0,4096\n', by)).toEqual(wanted);
  expect(await read('W\tx, y\t8\t512\nR\tx\t0\t4096\n', `${by},separator=tab`)).toEqual(wanted);
  expect(await read('W;x;8;512\nR;x;0;4096\n', by)).toEqual(wanted);
  expect(await read('  W  x  8\t512\nR x 0 4096\n', `${by},separator=blanks`)).toEqual(wanted);
  expect(
    await read('kind, "where", size\n"W", 0x1000, 512\nR, 0, 4096\n', 'op=kind,offset=where,length=size'),
  ).toEqual(wanted);
  expect(await read('kind,where,size\nW,1,512\nR,0,4096\n', 'op=1,offset=2:pages,length=3')).toEqual(wanted);
});

test('operations are words, letters of the kernel, or what the user says', async () => {
  const lines = ['write', 'WFS', 'FWS', 'FF', 'trim', 'DS', 'RA', 'zero', 'N'].map(
    (word) => `${word} 0 512\n`,
  );
  expect(await read(lines.join(''), 'op=1,offset=2,length=3')).toEqual([
    'write 0+512 @0',
    'write 0+512 @0 fua',
    'flush @0',
    'write 0+512 @0',
    'flush @0',
    'discard 0+512 @0',
    'discard 0+512 @0',
    'read 0+512 @0',
    'write-zeroes 0+512 @0',
  ]);
  const said = 'op=1:0=write/1=read/9=skip,offset=2,length=3';
  expect(await read('1 0 512\n9 0 512\n0 0 512\n', said)).toEqual(['read 0+512 @0', 'write 0+512 @0']);
  expect((await faultOf(temporaryFile('2 0 512\n'), { columns: parseColumns(said) })).message).toMatch(
    /line 1: the operation '2' is unknown/,
  );
});

test('lines of one kind and of one volume are taken, the others counted', async () => {
  const text = 'Q vda W 0\nD vda W 8\nD vdb W 16\nC vda W 8\n';
  const columns = parseColumns('only=1:D,volume=2,op=3,offset=4:sectors,length=4:sectors');
  const options = { columns, volume: 'vda' };
  const { requests, otherVolumeCount, passedOver } = await readWhole(temporaryFile(text), options);
  expect(requests.map(inWords)).toEqual(['write 4096+4096 @0']);
  expect(otherVolumeCount).toBe(1);
  expect(passedOver).toEqual([{ what: 'lines without D in their column', count: 2 }]);
});

test.each([
  ['W,0,512\nW,0\n', /line 2: has 2 columns, fewer than the layout names/],
  ['W,0,512\nW,zero,512\n', /line 2: the offset is not a whole number/],
  ['W,0,512\nW,-512,512\n', /line 2: the offset is not a whole number/],
  ['W,0,512\nW,0,5.5\n', /line 2: the size is not a whole number/],
  ['W,0,512\nW,9007199254740992,512\n', /line 2: the offset is not a whole number below 2\^53/],
  ['W,0,512\n,0,512\n', /line 2: the operation '' is unknown/],
])('%j breaks a rule', async (text, rule) => {
  const options = { columns: parseColumns('op=1,offset=2,length=3') };
  expect((await faultOf(temporaryFile(text), options)).message).toMatch(rule);
});

test.each([
  ['', /expected time=, op=/],
  ['op=1,offset=2', /length= is missing/],
  ['op=1,op=2,offset=2,length=3', /op is given twice/],
  ['op=0,offset=2,length=3', /columns count from 1/],
  ['op=257,offset=2,length=3', /columns count from 1 to 256/],
  ['time=1,op=2,offset=3,length=4', /the unit of times is missing: s, ms/],
  ['time=1:h,op=2,offset=3,length=4', /the unit of times is missing/],
  ['op=1,offset=2:miles,length=3', /expected one of bytes, sectors/],
  ['op=1:0=eat,offset=2,length=3', /operations are read, write/],
  ['op=1,offset=2,length=3,separator=x', /expected one of tab, comma/],
  ['op=1,offset=2,length=3,only=4', /expected only=COLUMN:WORD/],
  ['op=1,offset=2,length=3,colour=4', /expected time=, op=/],
])('--columns %s is refused', (text, rule) => {
  expect(() => parseColumns(text)).toThrow(rule);
});
