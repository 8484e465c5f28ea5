/**
 * Which differences from QEMU's runs are taken for a varying order or a late extent, and that no
 * other is.
 */

import { describe, expect, it } from 'vitest';

import type { HostOperation } from '../../src/peer/host-operation.ts';
import { judgeOrder, type TaggedRecord } from '../../src/peer/varying-order.ts';

/** `0 W 0x1000 512`: request, letter, offset, length; `0 F`; `close W …` after all requests. */
function run(...texts: readonly string[]): readonly HostOperation[] {
  return texts.map((text) => {
    const [request = '', letter, offset = '0', length = '0'] = text.split(' ');
    return {
      phase: request === 'close' ? 'close' : 'run',
      request: request === 'close' ? undefined : Number(request),
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
      : {
          phase,
          request,
          op: 'write',
          file,
          offset,
          length,
          purpose: phase === 'close' ? 'l2-table' : 'data',
        },
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

  it('takes a request that varies as the run has it that did what we did, and leaves nothing out', () => {
    const swapped = run('0 W 0x2000 512', '0 F', '0 W 0x1000 512', '0 F', '1 W 0x3000 512');
    const mine = run('0 W 0x1000 512', '0 F', '0 W 0x2000 512', '0 F', '1 W 0x3000 512', '1 F');
    expect(judgeOrder(ours, [mine, swapped])).toMatchObject({
      comparison: { identical: true, operations: 5 },
      exceptions: ['varying-order'],
      leftOut: [],
    });
  });

  it('does not make up a request from parts of two runs', () => {
    const one = run('0 W 0x1000 512', '0 F', '0 W 0x2000 512', '1 W 0x3000 512');
    const other = run('0 W 0x1000 512', '0 W 0x2000 512', '0 F', '1 W 0x3000 512');
    expect(judgeOrder(ours, [one, other])).toMatchObject({ leftOut: [0] });
  });

  it('leaves nothing out where every run of QEMU is the same', () => {
    const same = run('0 W 0x2000 512', '0 F', '0 W 0x1000 512', '0 F', '1 W 0x3000 512');
    expect(judgeOrder(ours, [same, same])).toMatchObject({ comparison: { identical: false }, leftOut: [] });
  });

  it('takes the close as the run has it that closed as we did, and hides no other', () => {
    const asked = ['0 W 0x1000 512', '0 W 0x2000 512', '0 F'];
    const mine = records(...asked, 'close W 0x8000 512', 'close W 0x9000 512', 'close F');
    const same = run(...asked, 'close W 0x8000 512', 'close W 0x9000 512', 'close F');
    const turned = run(...asked, 'close W 0x9000 512', 'close W 0x8000 512', 'close F');
    expect(judgeOrder(mine, [turned])).toMatchObject({ comparison: { identical: false } });
    expect(judgeOrder(mine, [same, turned])).toMatchObject({ comparison: { identical: true }, leftOut: [] });
    expect(judgeOrder(mine, [turned, turned])).toMatchObject({ comparison: { identical: false } });
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
