/** Where a trace comes from: a directory of files, a pipe; and requests that are widened. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { openTrace } from '../../../src/workload/trace/trace-reader.ts';
import { testDirectory } from '../../test-directory.ts';
import { faultOf, HEADER, inWords, readWhole, temporaryFile } from './trace-files.ts';

function directoryOf(files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = join(testDirectory(), 'hours');
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

describe('a directory is one trace', () => {
  test('its files are merged by time, compressed ones too', async () => {
    const path = directoryOf({
      'hour-10': '7,30,W,1024,512\n',
      'hour-2.gz': gzipSync('7,10,W,0,512\n7,20,W,512,512\n7,40,R,0,512\n'),
      '.hidden': 'no trace',
    });
    const { format, requests } = await readWhole(path);
    expect(format).toBe('k5cloud');
    expect(requests.map(inWords)).toEqual([
      'write 0+512 @0',
      'write 512+512 @10000000000',
      'write 1024+512 @20000000000',
      'read 0+512 @30000000000',
    ]);
  });

  test('a file of another format is an error with its path', async () => {
    const error = await faultOf(directoryOf({ a: '7,10,W,0,512\n', b: '0,0,512,W,0.5\n' }));
    expect(error.code).toBe('bad-trace');
    expect(error.path).toMatch(/hours\/b$/);
  });

  test('files whose times begin at 0 have no common clock', async () => {
    const error = await faultOf(
      directoryOf({ a: `${HEADER}1,write,0,512,\n`, b: `${HEADER}1,write,0,512,\n` }),
    );
    expect(error).toMatchObject({ code: 'no-common-clock' });
    expect(error.message).toMatch(/read them one by one/);
  });

  test('without files it is an error', async () => {
    expect(await faultOf(directoryOf({}))).toMatchObject({ code: 'no-trace-files' });
  });
});

test('what can be read only once is refused by those who read it more often', async () => {
  await expect(openTrace('/dev/null')).rejects.toMatchObject({ code: 'trace-is-stream' });
});

describe('requests that are not aligned', () => {
  const text = '7,1,W,100,200\n7,2,W,4096,4096\n7,3,W,8191,2\n';

  test('are bad lines', async () => {
    expect((await faultOf(temporaryFile(text))).message).toMatch(
      /line 1: offset 100 is not a multiple of 512/,
    );
  });

  test('are widened and counted where that is asked for', async () => {
    const { requests, adjusted } = await readWhole(temporaryFile(text), { align: 4096 });
    expect(requests.map(inWords)).toEqual([
      'write 0+4096 @0',
      'write 4096+4096 @1000000000',
      'write 4096+8192 @2000000000',
    ]);
    expect(adjusted).toEqual([{ what: 'requests widened to multiples of 4096 bytes', count: 2 }]);
  });

  test('are bad lines still if they have no length, or end past the device', async () => {
    const options = { align: 512 };
    expect((await faultOf(temporaryFile('7,1,W,100,0\n'), options)).message).toMatch(/length 0/);
    expect((await faultOf(temporaryFile('7,1,W,900,200\n'), { ...options, size: 1024 })).message).toMatch(
      /past the device's end/,
    );
  });
});
