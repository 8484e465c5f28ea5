/**
 * A directory on a real file system in which tests show images to QEMU and take them back.
 */

import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Format } from '../../src/format/disk-image.ts';
import { testDirectory } from '../test-directory.ts';
import type { GuestModel } from './guest-model.ts';
import { crashQemuIo, ioWords, runTool, tryTool } from './system-tools.ts';

/** Exit codes of `qemu-img check`. */
export const CHECK = { clean: 0, failed: 1, corrupt: 2, leaks: 3 } as const;

export interface CheckOutcome {
  readonly status: number | null;
  readonly output: string;
}

export class QemuDirectory {
  readonly path = testDirectory();

  put(name: string, bytes: Uint8Array): void {
    writeFileSync(join(this.path, name), bytes);
  }

  /** Makes a raw file of `size` bytes that holds what the model holds within them. */
  putRaw(name: string, model: GuestModel, size: number): void {
    const fd = openSync(join(this.path, name), 'w');
    try {
      for (const { start, bytes } of model.contents) {
        const length = Math.min(bytes.byteLength, size - start);
        if (length > 0) writeSync(fd, bytes, 0, length, start);
      }
      ftruncateSync(fd, size);
    } finally {
      closeSync(fd);
    }
  }

  delete(name: string): void {
    rmSync(join(this.path, name), { force: true });
  }

  get(name: string): Uint8Array<ArrayBuffer> {
    return new Uint8Array(readFileSync(join(this.path, name)));
  }

  /** Bytes of the file, holes included. */
  size(name: string): number {
    return statSync(join(this.path, name)).size;
  }

  /** Runs qemu-img to its end; throws with its messages if it fails. */
  img(...args: readonly string[]): string {
    return runTool('qemu-img', args, this.path);
  }

  /**
   * Runs qemu-io with these commands on an image of that format; throws with its messages if it
   * fails.
   */
  io(format: Format, name: string, ...commands: readonly string[]): string {
    return runTool('qemu-io', ioWords(commands, name, format), this.path);
  }

  /** Runs qemu-io and ends it as a crash does: nothing is closed. */
  ioThenCrash(format: Format, name: string, ...commands: readonly string[]): void {
    crashQemuIo(commands, name, { format, directory: this.path });
  }

  check(format: Format, name: string, ...options: readonly string[]): CheckOutcome {
    const words = ['check', '-f', format, ...options, name];
    const { status, stdout, stderr } = tryTool('qemu-img', words, this.path);
    return { status, output: stdout + stderr };
  }

  /** Expects `qemu-img check` to end with one of these codes. */
  expectCheck(format: Format, name: string, ...allowed: readonly number[]): void {
    const { status, output } = this.check(format, name);
    expect(allowed, output).toContain(status);
  }

  /** Expects QEMU to read from the image what the model holds, and zeroes everywhere else. */
  expectContents(format: Format, name: string, model: GuestModel): void {
    this.putRaw('expected.raw', model, model.shape.virtualSize);
    this.img('compare', '-f', format, '-F', 'raw', name, 'expected.raw');
  }
}
