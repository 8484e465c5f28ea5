import { describe, expect, it } from 'vitest';
import { LIMITS } from '../../src/core/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import type { BackingPolicy } from '../../src/format/backing-chain.ts';
import type { DiskImage, Format } from '../../src/format/disk-image.ts';
import { openImage } from '../../src/format/registry.ts';
import { filled, RecordedFiles } from './recorded-files.ts';
import { rejectionCodeOf } from './rejection.ts';

const SIZE = 1024 * 1024;

/** Files whose symbolic links the test names, and which remember what was opened. */
class LinkedFiles extends RecordedFiles {
  readonly opened: string[] = [];
  readonly links = new Map<string, string>();

  override open(name: string, options: { readonly label: string; readonly readOnly: boolean }): BlockDevice {
    this.opened.push(`${name} ${options.label} ${options.readOnly ? 'ro' : 'rw'}`);
    return super.open(name, options);
  }

  realName(name: string): string {
    return this.links.get(name) ?? name;
  }
}

async function overlay(
  files: RecordedFiles,
  name: string,
  backing: string,
  format: Format = 'raw',
): Promise<void> {
  await files.create(name, { format: 'qed', virtualSize: SIZE, backingFile: { name: backing, format } });
}

function open(files: RecordedFiles, name: string, backing?: BackingPolicy): Promise<DiskImage> {
  return openImage({ format: 'qed', name, files, readOnly: false, backing });
}

describe('opening a backing chain', () => {
  it('takes names from the directory of the image that holds them, read-only, nearest first', async () => {
    const files = new LinkedFiles();
    files.put('vm/base/disk.raw', filled(SIZE, 7));
    await overlay(files, 'vm/base/middle.qed', 'disk.raw');
    await overlay(files, 'vm/top.qed', 'base/middle.qed', 'qed');
    const image = await open(files, 'vm/top.qed', { unnamedFormat: 'qed' });
    expect(files.opened).toEqual([
      'vm/top.qed image rw',
      'vm/base/middle.qed backing:0 ro',
      'vm/base/disk.raw backing:1 ro',
    ]);
    const target = new Uint8Array(4096);
    await image.read(8192, target);
    expect(target).toEqual(filled(4096, 7));
    await image.close();
  });

  it('an image in the chain that needs a check is read as it is, not repaired', async () => {
    const files = new RecordedFiles();
    await files.create('base.qed', { format: 'qed', virtualSize: SIZE });
    const base = await open(files, 'base.qed');
    await base.write(0, filled(4096, 5));
    await base.abandon();
    const before = files.contents('base.qed');
    await overlay(files, 'top.qed', 'base.qed', 'qed');
    const image = await open(files, 'top.qed', { unnamedFormat: 'qed' });
    const target = new Uint8Array(4096);
    await image.read(0, target);
    expect(target).toEqual(filled(4096, 5));
    await image.close();
    expect(Buffer.compare(files.contents('base.qed'), before)).toBe(0);
  });

  it('a backing file shorter than its overlay ends in zeroes, a longer one is cut', async () => {
    const files = new RecordedFiles();
    files.put('short.raw', filled(1024, 7));
    await overlay(files, 'top.qed', 'short.raw');
    const image = await open(files, 'top.qed');
    const target = filled(4096, 9);
    await image.read(0, target);
    expect(target).toEqual(new Uint8Array([...filled(1024, 7), ...filled(3072, 0)]));
    await image.close();
  });
});

describe('an image does not get to open what it likes', () => {
  it.each([
    ['../secret.raw', 'backing-not-allowed'],
    ['/etc/shadow', 'backing-not-allowed'],
    ['sub/../../secret.raw', 'backing-not-allowed'],
    ['.', 'backing-not-allowed'],
    ['json:{"driver":"raw"}', 'backing-protocol'],
    ['nbd:localhost:10809', 'backing-protocol'],
    ['file:base.raw', 'backing-protocol'],
    ['fat:rw:dir', 'backing-protocol'],
    // A name ends at its first zero byte, as in QEMU.
    ['../secret.raw\0b', 'backing-not-allowed'],
    ['nbd:localhost:10809\0b', 'backing-protocol'],
  ])('%j: %s, and no file is opened', async (name, code) => {
    const files = new LinkedFiles();
    await overlay(files, 'vm/top.qed', name);
    expect(await rejectionCodeOf(() => open(files, 'vm/top.qed'))).toBe(code);
    expect(files.opened).toEqual(['vm/top.qed image rw']);
  });

  it('a link out of the directory is followed before it is judged', async () => {
    const files = new LinkedFiles();
    files.put('vm/base.raw', filled(SIZE, 1));
    files.links.set('vm/base.raw', '/etc/shadow');
    await overlay(files, 'vm/top.qed', 'base.raw');
    expect(await rejectionCodeOf(() => open(files, 'vm/top.qed'))).toBe('backing-not-allowed');
  });

  it('another directory, or any, can be allowed', async () => {
    const files = new RecordedFiles();
    files.put('base.raw', filled(SIZE, 1));
    await overlay(files, 'vm/top.qed', '../base.raw');
    await (await open(files, 'vm/top.qed', { allowedDirectory: '.' })).close();
    await (await open(files, 'vm/top.qed', { allowAnywhere: true })).close();
    const elsewhere = { allowedDirectory: 'images' };
    expect(await rejectionCodeOf(() => open(files, 'vm/top.qed', elsewhere))).toBe('backing-not-allowed');
  });

  it('a name with a colon is a path when written as one', async () => {
    const files = new RecordedFiles();
    files.put('a:b.raw', filled(SIZE, 1));
    files.put('nbd:x', filled(SIZE, 1));
    await overlay(files, 'top.qed', './nbd:x');
    await (await open(files, 'top.qed')).close();
  });

  it('the format is never guessed: a raw file that looks like an image stays raw', async () => {
    const files = new RecordedFiles();
    await files.create('base.img', { format: 'qed', virtualSize: SIZE });
    await overlay(files, 'top.qed', 'base.img', 'raw');
    const image = await open(files, 'top.qed');
    const target = new Uint8Array(512);
    await image.read(0, target);
    expect(new TextDecoder().decode(target.subarray(0, 3))).toBe('QED');
    await image.close();
  });

  it('a format that neither image nor caller names is an error', async () => {
    const files = new RecordedFiles();
    await files.create('base.qed', { format: 'qed', virtualSize: SIZE });
    await overlay(files, 'top.qed', 'base.qed', 'qed');
    expect(await rejectionCodeOf(() => open(files, 'top.qed'))).toBe('backing-format-missing');
  });
});

describe('a chain ends', () => {
  const qed: BackingPolicy = { unnamedFormat: 'qed' };

  it.each([['top.qed'], ['./sub/../top.qed']])('an image backed by itself as %s is a loop', async (name) => {
    const files = new RecordedFiles();
    await overlay(files, 'top.qed', name, 'qed');
    expect(await rejectionCodeOf(() => open(files, 'top.qed', qed))).toBe('backing-loop');
  });

  it('a loop over several images, and one through a link, are found', async () => {
    const files = new LinkedFiles();
    await overlay(files, 'a.qed', 'b.qed', 'qed');
    await overlay(files, 'b.qed', 'c.qed', 'qed');
    await overlay(files, 'c.qed', 'a.qed', 'qed');
    expect(await rejectionCodeOf(() => open(files, 'a.qed', qed))).toBe('backing-loop');
    await overlay(files, 'c.qed', 'alias.qed', 'qed');
    files.links.set('alias.qed', 'b.qed');
    expect(await rejectionCodeOf(() => open(files, 'a.qed', qed))).toBe('backing-loop');
    await overlay(files, 'a.qed', 'alias.qed', 'qed');
    await overlay(files, 'alias.qed', 'b.qed', 'qed');
    files.put('base.raw', filled(SIZE, 1));
    await overlay(files, 'b.qed', 'base.raw');
    expect(await rejectionCodeOf(() => open(files, 'a.qed', qed))).toBe('backing-loop');
  });

  it('as deep as the limit opens, one deeper does not', async () => {
    const files = new RecordedFiles();
    const deepest = LIMITS.backingChainDepth + 1;
    files.put(`${String(deepest)}.img`, filled(SIZE, 3));
    for (let n = 0; n < deepest; n++) {
      await overlay(files, `${String(n)}.img`, `${String(n + 1)}.img`, n + 1 === deepest ? 'raw' : 'qed');
    }
    const image = await open(files, '1.img', qed);
    const target = new Uint8Array(512);
    await image.read(0, target);
    expect(target).toEqual(filled(512, 3));
    await image.close();
    expect(await rejectionCodeOf(() => open(files, '0.img', qed))).toBe('backing-chain-too-deep');
  });

  it('a failed opening closes what it had opened, above and below what failed', async () => {
    const files = new RecordedFiles();
    const stillOpen = new Set<string>();
    let broken = '';
    files.wrap = (device) => {
      stillOpen.add(device.label);
      const close = device.close.bind(device);
      device.close = () => {
        stillOpen.delete(device.label);
        return close();
      };
      return new FaultDevice(device, ({ purpose }) =>
        device.label === broken && purpose === 'l1-table' ? 'EIO' : undefined,
      );
    };
    files.put('base.raw', filled(SIZE, 1));
    await overlay(files, 'a.qed', 'b.qed', 'qed');
    await overlay(files, 'b.qed', 'missing.qed', 'qed');
    expect(await rejectionCodeOf(() => open(files, 'a.qed', qed))).toBe('file-missing');
    expect([...stillOpen]).toEqual([]);
    await overlay(files, 'b.qed', 'base.raw');
    for (broken of ['image', 'backing:0']) {
      expect(await rejectionCodeOf(() => open(files, 'a.qed', qed))).toBe('host-read-failed');
      expect([...stillOpen]).toEqual([]);
    }
  });
});
