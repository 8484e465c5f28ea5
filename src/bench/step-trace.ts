/**
 * What an engine does, as text for debugging: a line for each guest request and for each host
 * operation that it leads to, in the order of issue.
 *
 *     run   guest  write         0x40000 +4096
 *     run   image  write         0x60000 +4096  data
 *     run   image  sync          l2-after-cow
 *
 * Invariant: without a listener an open image has no part of this, and pays nothing for it.
 */

import { hex } from '../core/error.ts';
import type { Pending } from '../core/pending.ts';
import type { HostLogRecord } from '../device/host-log.ts';
import type { PhaseSource } from '../device/operation.ts';
import {
  BlockBackend,
  type BlockBackendOptions,
  type WriteFlags,
  type WriteZeroesFlags,
} from '../format/block-backend.ts';

export type StepListener = (line: string) => void;

let listener: StepListener | undefined;

/**
 * Images that are opened from now on report each step to `next`; `undefined` ends it for later
 * ones.
 */
export function traceSteps(next: StepListener | undefined): void {
  listener = next;
}

export function stepListener(): StepListener | undefined {
  return listener;
}

/** The line of a host operation. */
export function hostStep(record: HostLogRecord): string {
  const { phase, op, file } = record;
  if (record.op === 'sync') return stepLine(phase, file, op, record.cause);
  const { offset, length, purpose, parts } = record;
  const shares = parts?.map(([part, bytes]) => `${part} ${String(bytes)}`).join(', ');
  return stepLine(phase, file, op, `${hex(offset)} +${String(length)}  ${shares ?? purpose}`);
}

/** A backend that reports each request before it serves it. */
export class TracedBackend extends BlockBackend {
  readonly #tell: (op: string, details?: string) => void;

  constructor(options: BlockBackendOptions, phases: PhaseSource, listen: StepListener) {
    super(options);
    this.#tell = (op, details = '') => {
      listen(stepLine(phases.phase, 'guest', op, details));
    };
  }

  override read(guestOffset: number, target: Uint8Array): Pending {
    this.#tell('read', range(guestOffset, target.byteLength));
    return super.read(guestOffset, target);
  }

  override write(guestOffset: number, bytes: Uint8Array, flags: WriteFlags): Pending {
    this.#tell('write', `${range(guestOffset, bytes.byteLength)}${flags.fua ? '  fua' : ''}`);
    return super.write(guestOffset, bytes, flags);
  }

  override writeZeroes(guestOffset: number, length: number, flags: WriteZeroesFlags): Pending {
    const words = `${flags.unmap ? '  unmap' : ''}${flags.fua ? '  fua' : ''}`;
    this.#tell('write-zeroes', `${range(guestOffset, length)}${words}`);
    return super.writeZeroes(guestOffset, length, flags);
  }

  override discard(guestOffset: number, length: number): Pending {
    this.#tell('discard', range(guestOffset, length));
    return super.discard(guestOffset, length);
  }

  override flush(): Pending {
    this.#tell('flush');
    return super.flush();
  }
}

function range(offset: number, length: number): string {
  return `${hex(offset)} +${String(length)}`;
}

/** Columns: phase, file (or the guest), operation, and the rest. */
function stepLine(phase: string, file: string, op: string, details: string): string {
  return `${phase.padEnd(5)} ${file.padEnd(9)} ${op.padEnd(12)} ${details}`.trimEnd();
}
