/**
 * The capabilities of the image directory, found out by trying it once before a run, so that
 * nothing changes in mid-run. The result is a plain value that is passed to its users: tests, and
 * cells of other platforms, take capabilities away by handing in another one.
 *
 * Invariant: every reason is a clause a user can read in "skipped: …"; it names the directory.
 */

import { closeSync, constants, ftruncateSync, readSync, writeSync } from 'node:fs';
import { systemCode } from '../core/error.ts';
import { openSync } from '../core/host-fs.ts';
import type { BlockDevice } from './block-device.ts';
import { O_DIRECT, probeRequestAlignment, SAFE_ALIGNMENT } from './direct-io.ts';
import { loadFallocate } from './fallocate.ts';
import { hostError } from './host-error.ts';
import { checkDirectory, directoryUnwritable } from './output-directory.ts';
import { mountPointOf } from './mount-point.ts';
import { discardTemporary, temporaryPath } from './temporary-file.ts';

export interface Missing {
  readonly ok: false;
  readonly reason: string;
}
export type Capability = { readonly ok: true } | Missing;
/** `alignment` in bytes: offsets and lengths of direct requests are multiples of it. */
export type DirectCapability = { readonly ok: true; readonly alignment: number } | Missing;

export interface Capabilities {
  /** As Node names it: `linux`, `darwin`, `win32` … */
  readonly platform: string;
  /** Type of the file system (`ext4`), or `undefined` where the system does not report it. */
  readonly fileSystem: string | undefined;
  /** O_DIRECT, which the cache modes `none` and `directsync` need. */
  readonly direct: DirectCapability;
  /** `fallocate` with FALLOC_FL_ZERO_RANGE. */
  readonly zeroRange: Capability;
  /** `fallocate` with FALLOC_FL_PUNCH_HOLE. */
  readonly punchHole: Capability;
}

export type CapabilityProbe = (directory: string) => Capabilities;

/**
 * Of a place that is not tried beforehand, as nothing may be written there: all is taken to be
 * supported until a file finds out otherwise. O_DIRECT is refused when a file is opened, and its
 * alignment is asked of the file itself, as QEMU does.
 */
export const UNTRIED: Capabilities = {
  platform: process.platform,
  fileSystem: undefined,
  direct: { ok: true, alignment: SAFE_ALIGNMENT },
  zeroRange: { ok: true },
  punchHole: { ok: true },
};

/** Capabilities without those that a file of the place found unsupported while it was used. */
export function lessFound(
  capabilities: Capabilities,
  files: readonly Pick<BlockDevice, 'path' | 'canZeroRange' | 'canPunchHole'>[],
): Capabilities {
  const found = (can: Capability, file: { readonly path: string } | undefined, name: string): Capability =>
    !can.ok || file === undefined
      ? can
      : { ok: false, reason: `the file system of ${file.path} has no ${name}` };
  const { zeroRange, punchHole } = capabilities;
  return {
    ...capabilities,
    zeroRange: found(
      zeroRange,
      files.find((file) => !file.canZeroRange),
      'FALLOC_FL_ZERO_RANGE',
    ),
    punchHole: found(
      punchHole,
      files.find((file) => !file.canPunchHole),
      'FALLOC_FL_PUNCH_HOLE',
    ),
  };
}

/** Bytes of the scratch file; two times the largest alignment. */
const SCRATCH_SIZE = 8192;

/**
 * Tries what `directory` can do, on a scratch file of 8 KiB there that is gone afterwards.
 *
 * @throws Qcow2BenchError `directory-missing`, `not-a-directory`, `directory-unwritable`, or
 * `host-write-failed` where not even the scratch file fits.
 */
export const probeCapabilities: CapabilityProbe = (directory) => {
  checkDirectory(directory);
  const scratch = temporaryPath(directory);
  const fd = createScratch(directory, scratch);
  try {
    fill(fd, scratch);
    const mount = mountPointOf(directory);
    const place = `the file system ${mount?.type ?? '(of unknown type)'} at ${directory}`;
    return {
      platform: process.platform,
      fileSystem: mount?.type,
      direct: probeDirect(scratch, place),
      zeroRange: probeFallocate(fd, scratch, place, 'zeroRange'),
      punchHole: probeFallocate(fd, scratch, place, 'punchHole'),
    };
  } finally {
    closeSync(fd);
    discardTemporary(scratch);
  }
};

function createScratch(directory: string, scratch: string): number {
  try {
    return openSync(scratch, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    throw directoryUnwritable(directory, error);
  }
}

/**
 * Fills the scratch file with ones: alignment shows only on written blocks, zeroing only on other
 * bytes.
 */
function fill(fd: number, path: string): void {
  try {
    ftruncateSync(fd, SCRATCH_SIZE);
    writeSync(fd, new Uint8Array(SCRATCH_SIZE).fill(1), 0, SCRATCH_SIZE, 0);
  } catch (error) {
    throw hostError('host-write-failed', { path }, error);
  }
}

function probeDirect(scratch: string, place: string): DirectCapability {
  if (O_DIRECT === undefined) return { ok: false, reason: `${process.platform} has no O_DIRECT` };
  let fd: number;
  try {
    fd = openSync(scratch, constants.O_RDWR | O_DIRECT);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EINVAL') return { ok: false, reason: `${place} has no O_DIRECT` };
    return { ok: false, reason: `${place} refuses O_DIRECT (${code ?? String(error)})` };
  }
  try {
    return { ok: true, alignment: probeRequestAlignment(fd) };
  } catch (error) {
    return {
      ok: false,
      reason: `${place} cannot read with O_DIRECT (${systemCode(error) ?? String(error)})`,
    };
  } finally {
    closeSync(fd);
  }
}

function probeFallocate(
  fd: number,
  path: string,
  place: string,
  operation: 'zeroRange' | 'punchHole',
): Capability {
  const name = operation === 'zeroRange' ? 'FALLOC_FL_ZERO_RANGE' : 'FALLOC_FL_PUNCH_HOLE';
  const binding = loadFallocate();
  if (!binding.ok) return { ok: false, reason: `${place} has no ${name}: ${binding.reason}` };
  fill(fd, path);
  const half = SCRATCH_SIZE / 2;
  try {
    binding.fallocate[operation](fd, half, half);
  } catch (error) {
    const code = systemCode(error);
    return { ok: false, reason: `${place} has no ${name} (${code ?? String(error)})` };
  }
  const after = new Uint8Array(SCRATCH_SIZE);
  readSync(fd, after, 0, SCRATCH_SIZE, 0);
  const works = after.every((byte, index) => byte === (index < half ? 1 : 0));
  return works ? { ok: true } : { ok: false, reason: `${place} accepts ${name} but does nothing` };
}
