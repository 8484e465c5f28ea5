/**
 * QEMU's operations on images with snapshots, bitmaps, extended L2 entries or a data file get the
 * purposes that our engine gives the same operations.
 */

import { describe, expect, it } from 'vitest';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { classifyOperations } from '../../src/peer/classify.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import type { FileLayout } from '../../src/format/file-layout.ts';
import { readFileLayout } from '../../src/format/registry.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from '../parity/twin-images.ts';

const CLUSTER = 65_536;
const rest = { fua: false, unmap: true, timeNs: 0 };
const REQUESTS: readonly Request[] = [
  { op: 'write', offset: 4096, length: 8192, ...rest },
  { op: 'write', offset: 3 * CLUSTER - 512, length: CLUSTER, ...rest },
  { op: 'read', offset: 2 * CLUSTER, length: 4096, ...rest },
  { op: 'discard', offset: 0, length: CLUSTER, ...rest },
  { op: 'write-zeroes', offset: 5 * CLUSTER, length: CLUSTER, ...rest },
  { op: 'flush', offset: 0, length: 0, ...rest },
  { op: 'write', offset: 40 * CLUSTER + 1024, length: 2 * CLUSTER, ...rest },
];

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`purposes on images with snapshots are not shown: ${skip}\n`);

function newTwins(options: string): TwinImages {
  const twins = new TwinImages();
  const all = ['cluster_size=64k', ...(options === '' ? [] : [options])].join(',');
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', all, 'disk', '8M');
  twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 512k', '-c', 'write -P 2 3M 64k', 'disk');
  return twins;
}

async function layoutOf(twins: TwinImages): Promise<FileLayout> {
  const files = new FileStorage(twins.directory, probeCapabilities(twins.directory));
  const device = files.open('disk', { readOnly: true });
  try {
    return await readFileLayout(device, 'qcow2');
  } finally {
    await device.close();
  }
}

/** Changes of the files and what they are for; each engine opens an image with reads of its own. */
function changes(records: readonly HostLogRecord[]): readonly string[] {
  return records.flatMap((record) => {
    if (record.op === 'sync' || record.op === 'read') return [];
    const { op, file, offset, length, purpose } = record;
    return [`${op} ${file} ${String(offset)}+${String(length)} ${purpose}`];
  });
}

/** Traces QEMU at work on the image and answers the purposes of its changes. */
async function classified(
  twins: TwinImages,
  requests: readonly Request[],
  run: () => Promise<readonly HostOperation[]>,
): Promise<readonly string[]> {
  const before = await layoutOf(twins);
  const operations = await run();
  const after = await layoutOf(twins);
  const options = {
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    requests,
    before,
    after,
  } as const;
  return changes(classifyOperations(operations, options).records);
}

describe.skipIf(skip !== undefined)('the purposes of what QEMU changes are ours', () => {
  const cases = [
    { options: '', snapshot: true, bitmap: false },
    { options: '', snapshot: false, bitmap: true },
    { options: '', snapshot: true, bitmap: true },
    { options: 'extended_l2=on', snapshot: false, bitmap: false },
    { options: 'extended_l2=on', snapshot: true, bitmap: true },
    { options: 'refcount_bits=64', snapshot: true, bitmap: true },
  ];
  it.each(cases)('requests: %j', async ({ options, snapshot, bitmap }) => {
    const twins = newTwins(options);
    if (bitmap) twins.run('qemu-img', 'bitmap', '--add', '-g', '64k', 'disk', 'b');
    if (snapshot) twins.run('qemu-img', 'snapshot', '-c', 'one', 'disk');
    const ours = changes(await twins.serveOurs(REQUESTS));
    const path = twins.theirs;
    const theirs = await classified(twins, REQUESTS, () =>
      runQemuIo({ path, format: 'qcow2', cache: 'writeback', requests: REQUESTS }),
    );
    expect(theirs).toEqual(ours);
    if (bitmap) expect(theirs.filter((text) => text.endsWith(' bitmap')).length).toBeGreaterThan(3);
  });

  it.each(['', 'extended_l2=on'])('snapshots that are taken, applied and deleted: %j', async (options) => {
    const twins = newTwins(options);
    for (const [action, option, name] of [
      ['create', '-c', 'one'],
      ['create', '-c', 'two'],
      ['apply', '-a', 'one'],
      ['delete', '-d', 'two'],
    ] as const) {
      twins.copy();
      const ours = changes(
        await twins.withOurs('writeback', async ({ image }) => {
          if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
          if (action === 'create') await image.snapshots.create({ name, seconds: 0, nanoseconds: 0 });
          else await image.snapshots[action](name);
        }),
      );
      const theirs = await classified(twins, [], () => twins.trace('snapshot', option, name, twins.theirs));
      expect(theirs, `${action} ${name}`).toEqual(ours);
      if (action === 'create') expect(theirs.join('\n')).toContain(' snapshot-table');
    }
  });
});

describe.skipIf(skip !== undefined)('a layout', () => {
  it('knows the tables of a snapshot that the disk has left behind', async () => {
    const twins = newTwins('');
    const before = await layoutOf(twins);
    twins.run('qemu-img', 'snapshot', '-c', 'one', 'disk');
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 0 64k', 'disk');
    const after = await layoutOf(twins);
    const end = twins.read('disk').byteLength;
    const places = (layout: FileLayout, purpose: string): readonly number[] =>
      Array.from({ length: end / CLUSTER }, (_, cluster) => cluster * CLUSTER).filter(
        (at) => layout.metadataAt(at) === purpose,
      );
    expect(places(before, 'snapshot-table')).toHaveLength(0);
    expect(places(after, 'snapshot-table')).toHaveLength(1);
    expect(places(after, 'l1-table')).toHaveLength(2);
    expect(places(after, 'l2-table')).toHaveLength(2);
    expect(places(after, 'l2-table')).toEqual(expect.arrayContaining([...places(before, 'l2-table')]));
  });

  it('takes no offset of a data file for one of the image', async () => {
    const twins = newTwins('data_file=data,data_file_raw=off');
    const layout = await layoutOf(twins);
    for (let at = 0; at < 8 * 1024 * 1024; at += CLUSTER) expect(layout.guestOffsetAt(at)).toBeUndefined();
  });
});
