/**
 * Names that are not UTF-8, in images made by QEMU and by us: kept to the byte by everything that
 * writes them again.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { lastWords } from '../../src/cli/host-words.ts';
import { bytesOfText, textOfBytes } from '../../src/core/byte-text.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { HOST_FILES, hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { readImageInfo } from '../../src/image/image-info.ts';
import { changeSnapshots, listSnapshots } from '../../src/image/image-snapshots.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const MIB = 1024 * 1024;
const skipped = reasonToSkip('qemu-img', 'qemu-io');
const onLinux = process.platform === 'linux';

/** Latin-1, a cut character, overlong, CESU-8, and valid but unnormalised. */
const NAMES: Readonly<Record<string, Buffer>> = {
  'latin-1': Buffer.from('caf\xe9.raw', 'latin1'),
  'a cut character': Buffer.from('x\xe2\x82.raw', 'latin1'),
  overlong: Buffer.from('x\xc0\xae.raw', 'latin1'),
  'an encoded surrogate': Buffer.from('x\xed\xa0\x80.raw', 'latin1'),
  unnormalised: Buffer.from('e\u0301.raw'),
};

function bytesIn(folder: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${folder}/`), name]);
}

/** Runs a program of QEMU with words that may be bytes: Node's own arguments are text. */
function runWithBytes(folder: string, ...words: readonly (string | Buffer)[]): Buffer {
  const quoted = words.map((word) =>
    word === '&&'
      ? Buffer.from(word)
      : Buffer.concat([Buffer.from("'"), Buffer.from(word), Buffer.from("'")]),
  );
  const script = Buffer.concat(quoted.flatMap((word) => [word, Buffer.from(' ')]));
  writeFileSync(join(folder, 'run.sh'), script);
  return execFileSync('sh', ['run.sh'], { cwd: folder, stdio: 'pipe' });
}

describe.skipIf(skipped !== undefined || !onLinux)('an image of QEMU whose names are not UTF-8', () => {
  test.for(Object.entries(NAMES))('keeps its backing name and a snapshot of it: %s', async ([, name]) => {
    const folder = testDirectory();
    writeFileSync(bytesIn(folder, name), Buffer.alloc(MIB, 7));
    runWithBytes(folder, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', name, '-F', 'raw', 'top', '1M');
    runWithBytes(folder, 'qemu-img', 'snapshot', '-c', name, 'top');
    const path = join(folder, 'top');
    const keepsName = (): void => expect(readFileSync(path).subarray(0, 4096).includes(name)).toBe(true);
    keepsName();

    const text = textOfBytes(name);
    const info = await readImageInfo(hostImage(path));
    expect(info).toMatchObject({ backing: { name: text, format: 'raw' }, snapshots: [{ name: text }] });
    const { image } = await openChain({ path });
    const read = new Uint8Array(16);
    await image.read(0, read);
    await image.abandon();
    expect(read).toEqual(new Uint8Array(16).fill(7));

    // The dirty bit, which a repair clears, and a larger disk: both write the header again.
    const bytes = readFileSync(path);
    bytes.writeUInt32BE(1, 76);
    writeFileSync(path, bytes);
    await checkImageFile({ ...hostImage(path), repair: 'all' });
    keepsName();
    const files = WRITABLE_HOST_FILES;
    await resizeImage({ name: path, format: 'qcow2', files, size: { to: 2 * MIB } });
    keepsName();

    // Of names that differ in their bytes alone the right one goes.
    const other = Buffer.concat([name, Buffer.of(0xfe)]);
    const twin = textOfBytes(Buffer.concat([name, Buffer.of(0xff)]));
    const change = { seconds: 0, nanoseconds: 0 };
    for (const each of [twin, textOfBytes(other)]) {
      await changeSnapshots({ path, change: { action: 'create', snapshot: { name: each, ...change } } });
    }
    await changeSnapshots({ path, change: { action: 'delete', which: textOfBytes(other) } });
    await changeSnapshots({ path, change: { action: 'apply', which: text } });
    expect((await listSnapshots(path)).map((snapshot) => snapshot.name)).toEqual([text, twin]);
    runWithBytes(folder, 'qemu-img', 'snapshot', '-d', name, 'top');
    runWithBytes(folder, 'qemu-img', 'check', '-q', 'top');
    expect((await listSnapshots(path)).map((snapshot) => snapshot.name)).toEqual([twin]);
    keepsName();
  });
});

describe.skipIf(!onLinux)('an image of ours', () => {
  test.for(['qcow2', 'qed'] as const)(
    '%s: names its backing file by the bytes, and finds it',
    async (format) => {
      const folder = testDirectory();
      const name = NAMES['latin-1'] ?? Buffer.alloc(0);
      const text = textOfBytes(name);
      writeFileSync(bytesIn(folder, name), Buffer.alloc(MIB, 7));
      const backing = { name: text, path: join(folder, text), format: 'raw', files: HOST_FILES } as const;
      await createImageFile({ ...hostImage(join(folder, `top\udcff`)), format, backing });
      const path = bytesIn(folder, Buffer.from('top\xff', 'latin1'));
      expect(readFileSync(path).includes(bytesOfText(text))).toBe(true);
      const { image } = await openChain({ path: join(folder, 'top\udcff') });
      const read = new Uint8Array(4);
      await image.read(0, read);
      await image.abandon();
      expect(read).toEqual(new Uint8Array(4).fill(7));
    },
  );
});

describe('the command line', () => {
  test.skipIf(!onLinux)('takes names as the system has them, in a folder of such a name too', () => {
    const folder = testDirectory();
    const within = Buffer.from('d\xe9', 'latin1');
    const name = Buffer.from('disk\xe9', 'latin1');
    mkdirSync(bytesIn(folder, within));
    writeFileSync(bytesIn(folder, Buffer.concat([within, Buffer.from('/'), name])), Buffer.alloc(MIB));
    const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
    const call = [process.execPath, main, 'info', '--json', name];
    const inFolder = ['cd', within, '&&', ...call];
    const answer = JSON.parse(runWithBytes(folder, ...inFolder).toString()) as Record<string, unknown>;
    expect(answer).toMatchObject({ filename: 'disk\udce9', format: 'raw', 'virtual-size': MIB });
  });

  test('the words are those of the system', () => {
    const line = Buffer.from('node\0main.ts\0info\0caf\xe9\0\0', 'latin1');
    expect(lastWords(line, 3)).toEqual(['info', 'caf\udce9', '']);
    expect(lastWords(line, 0)).toEqual([]);
    expect(lastWords(Buffer.from('cut'), 1)).toEqual(['cut']);
  });
});
