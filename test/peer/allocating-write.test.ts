/** What docs/cache-modes.md shows of the engines, QEMU does. */

import { expect, test } from 'vitest';

import { ALLOCATING_WRITES, panelsOf } from '../../scripts/allocating-write.ts';
import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { QemuEngine } from '../../src/peer/qemu-engine.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { peerProfile } from '../parity/peer-stack.ts';
import { testDirectory } from '../test-directory.ts';

const skipped = reasonToSkip('qemu-io', 'strace');

test.skipIf(skipped !== undefined)(
  `the operations of each picture are those of QEMU under strace (${skipped ?? 'found'})`,
  async () => {
    const directory = testDirectory();
    const qemu = new QemuEngine({ files: new FileStorage(directory, probeCapabilities(directory)) });
    for (const picture of ALLOCATING_WRITES) {
      const drawn = await panelsOf(picture, new BuiltinEngine());
      expect(drawn.map(({ variant }) => variant)).toEqual(['qcow2 eager', 'qcow2 lazy', 'QED', 'raw']);
      expect(await panelsOf(picture, qemu, peerProfile())).toEqual(drawn);
    }
  },
);
