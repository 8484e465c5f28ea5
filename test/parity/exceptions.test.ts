/**
 * The named exceptions of docs/qemu-rules.md that have no test elsewhere: what QEMU does, what we do, and that the
 * suite takes nothing else for it.
 */

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { openStack } from '../../src/bench/stack.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { formatOperation } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { judgeOrder, type TaggedRecord } from '../../src/peer/varying-order.ts';

const MIB = 1024 * 1024;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-exceptions-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(skip !== undefined)('raw-direct-over-hole', () => {
  const request: Request = {
    op: 'write',
    offset: MIB / 2,
    length: 512,
    fua: false,
    unmap: false,
    timeNs: 0,
  };
  const theirs = (name: string): Promise<readonly HostOperation[]> =>
    runQemuIo({ path: join(directory, name), format: 'raw', cache: 'none', requests: [request] });

  // qemu-img and we write the first block of a new raw file; other programs do not.
  const makeHole = (name: string, size: number): void => {
    writeFileSync(join(directory, name), '');
    truncateSync(join(directory, name), size);
  };

  it('QEMU pads to 4 KiB where a raw file begins with a hole, we to what the device asks for', async () => {
    makeHole('hole', MIB);
    const capabilities = probeCapabilities(directory);
    if (!capabilities.direct.ok || capabilities.direct.alignment !== 512) return;
    const written = (await theirs('hole')).filter(({ op }) => op === 'write').map(formatOperation);
    expect(written).toEqual(['W 0x80000 4096']);

    const ours: string[] = [];
    await using stack = await openStack({
      storage: new FileStorage(directory, capabilities),
      imageName: 'hole',
      format: 'raw',
      cache: 'none',
      hostLog: (record) => {
        if (record.op === 'write') ours.push(formatOperation(record));
      },
    });
    await stack.backend.write(request.offset, new Uint8Array(request.length), request);
    await stack.close();
    expect(ours).toEqual(['W 0x80000 512']);
  });

  it('QEMU refuses such a file if its size is no multiple of 4 KiB; we serve it', async () => {
    makeHole('odd', MIB + 512);
    await expect(theirs('odd')).rejects.toThrow('not a multiple of request alignment');
  });
});

/** `0 W 0x1000 512`: request, letter, offset, length; `0 F`. */
function run(...texts: readonly string[]): readonly HostOperation[] {
  return texts.map((text) => {
    const [request = '', letter, offset = '0', length = '0'] = text.split(' ');
    return {
      phase: 'run',
      request: Number(request),
      op: letter === 'F' ? 'sync' : 'write',
      file: 'image',
      offset: Number(offset),
      length: Number(length),
      error: undefined,
    };
  });
}

function records(...texts: readonly string[]): readonly TaggedRecord[] {
  return run(...texts).map(({ phase, request, op, file, offset, length }) =>
    op === 'sync'
      ? { phase, request, op, file, cause: 'writethrough' }
      : { phase, request, op: 'write', file, offset, length, purpose: 'data' },
  );
}

describe('varying-order', () => {
  const ours = records('0 W 0x1000 512', '0 F', '0 W 0x2000 512', '0 F', '1 W 0x3000 512');

  it('leaves out a request in which two runs of QEMU differ, and compares all others', () => {
    const one = run('0 W 0x2000 512', '0 F', '0 W 0x1000 512', '0 F', '1 W 0x3000 512');
    const other = run('0 W 0x1000 512', '0 W 0x2000 512', '0 F', '1 W 0x3000 512');
    expect(judgeOrder(ours, [one, other])).toMatchObject({
      comparison: { identical: true, operations: 1 },
      exceptions: ['varying-order'],
      leftOut: [0],
    });
  });

  it('leaves nothing out where every run of QEMU is the same', () => {
    const same = run('0 W 0x2000 512', '0 F', '0 W 0x1000 512', '0 F', '1 W 0x3000 512');
    expect(judgeOrder(ours, [same, same])).toMatchObject({ comparison: { identical: false }, leftOut: [] });
  });

  it('does not hide a difference in a request that does not vary', () => {
    const one = run('0 W 0x2000 512', '0 F', '0 W 0x1000 512', '0 F', '1 W 0x3000 1024');
    const other = run('0 W 0x1000 512', '0 W 0x2000 512', '0 F', '1 W 0x3000 1024');
    expect(judgeOrder(ours, [one, other]).comparison.identical).toBe(false);
  });
});

describe('late-extent', () => {
  const ours = records('0 W 0x1000 512', '0 W 0x2000 512', '0 F', '1 W 0x3000 512', '1 F');

  it('takes a second sync at once for one, in a request of several writes', () => {
    const theirs = run('0 W 0x1000 512', '0 W 0x2000 512', '0 F', '0 F', '1 W 0x3000 512', '1 F');
    expect(judgeOrder(ours, [theirs])).toMatchObject({
      comparison: { identical: true },
      exceptions: ['late-extent'],
    });
  });

  it('is not there in a request of one write', () => {
    const theirs = run('0 W 0x1000 512', '0 W 0x2000 512', '0 F', '1 W 0x3000 512', '1 F', '1 F');
    expect(judgeOrder(ours, [theirs]).comparison.identical).toBe(false);
  });
});
