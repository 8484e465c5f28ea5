import { statSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { AccountedStorage } from '../../src/device/accounted-storage.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { testDirectory } from '../test-directory.ts';

const directory = testDirectory();
const capabilities = probeCapabilities(directory);
const files = new FileStorage(directory, capabilities);
const MIB = 1024 * 1024;
/** Blocks in which a file system stores where many extents are. */
const EXTENT_TREE_BYTES = 64 * 1024;

/** ext4 and XFS report what `fallocate` took at once; others may round or delay. */
const hasFallocate =
  capabilities.zeroRange.ok &&
  capabilities.punchHole.ok &&
  ['ext4', 'xfs'].includes(String(capabilities.fileSystem));

const operation = fc.record({
  kind: fc.constantFrom('write', 'zero', 'punch', 'reserve', 'shrink', 'grow'),
  offset: fc.nat(4 * MIB),
  length: fc.integer({ min: 1, max: MIB }),
});

async function apply(
  device: BlockDevice,
  { kind, offset, length }: { readonly kind: string; readonly offset: number; readonly length: number },
): Promise<void> {
  switch (kind) {
    case 'write':
      return device.write(offset, Buffer.alloc(length, 1), 'data');
    case 'zero':
      return device.zeroRange(offset, length, 'data');
    case 'punch':
      return offset + length > device.size() ? undefined : device.punchHole(offset, length, 'data');
    case 'reserve':
      return device.reserve(offset, length, 'data');
    case 'shrink':
      return device.truncate(Math.min(offset, device.size()), 'data');
    default:
      return device.truncate(device.size() + length, 'data');
  }
}

test.skipIf(!hasFallocate)('accounts for the blocks that a file system allocates', async () => {
  let number = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 20 }), async (operations) => {
      const name = `f${String(number++)}`;
      const memory = new AccountedStorage();
      const [accounted, real] = [memory.create(name), files.create(name)];
      for (const each of operations) {
        await apply(accounted, each);
        await apply(real, each);
      }
      real.sync('close');
      const { fileBytes, allocatedBytes } = memory.usage(() => true);
      const { size, blocks } = statSync(join(directory, name));
      real.close();
      files.remove(name);
      expect(fileBytes).toBe(size);
      expect(blocks * 512).toBeGreaterThanOrEqual(allocatedBytes);
      expect(blocks * 512).toBeLessThanOrEqual(allocatedBytes + EXTENT_TREE_BYTES);
    }),
    { numRuns: 60 },
  );
});

test('counts each block once, whichever device of the file writes it', () => {
  const memory = new AccountedStorage();
  const [one, other] = [memory.create('f'), memory.open('f')];
  one.write(0, Buffer.alloc(5000), 'data');
  other.write(4096, Buffer.alloc(4096), 'data');
  expect(memory.usage(() => true)).toEqual({ fileBytes: 8192, allocatedBytes: 8192 });
  one.punchHole(0, 6000, 'data');
  expect(memory.usage(() => true)).toEqual({ fileBytes: 8192, allocatedBytes: 4096 });
  other.truncate(0, 'data');
  expect(memory.usage(() => true)).toEqual({ fileBytes: 0, allocatedBytes: 0 });
});
