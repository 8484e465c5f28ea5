/**
 * One list against its recording: our engine in memory, what QEMU did in a file. Needs nothing that
 * is installed.
 */

import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { QemuProfileName } from '../../src/format/qemu-profile.ts';
import { serveWithBuiltin } from './both-engines.ts';
import { endHashes, makeGoldenStart, operationsOf, readBackHash, type Golden } from './goldens.ts';
import { PackedHoles } from './packed-file.ts';
import { allFiles, type ParityList } from './parity-list.ts';
import { compareWithout } from '../../src/peer/varying-order.ts';

/** What differs from the recording of the version `like`, in words; empty if nothing does. */
export async function differencesFromGolden(
  list: ParityList,
  golden: Golden,
  like: QemuProfileName,
): Promise<readonly string[]> {
  const storage = new MemoryStorage();
  await makeGoldenStart(golden, storage);
  const { records, wrongReads, readBack } = await serveWithBuiltin(list, storage, like, (device) => {
    const depth = /^backing:(\d+)$/.exec(device.label)?.[1];
    const packed = depth === undefined ? undefined : golden.start[list.files[Number(depth) + 1]?.name ?? ''];
    return packed === undefined ? device : new PackedHoles(device, packed);
  });
  const comparison = compareWithout(records, operationsOf(golden), golden.leftOut);
  const end = await endHashes(list, storage);
  for (const name of allFiles(list)) storage.remove(name);
  return [
    ...(comparison.identical ? [] : [comparison.text]),
    ...Object.entries(golden.end)
      .filter(([name, hash]) => end[name] !== hash)
      .map(([name]) => `the final bytes of ${name} differ from the recording`),
    ...wrongReads,
    ...(readBackHash(readBack) === golden.readBack ? [] : ['the guest reads other bytes afterwards']),
  ];
}
