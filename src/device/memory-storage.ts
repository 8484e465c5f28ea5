/**
 * Image files in memory. They live as long as the storage; closing a device keeps its bytes.
 *
 * Invariant: with the default capabilities, counts are those of a file system with O_DIRECT on
 * 512-byte blocks and with `fallocate`, on every platform. A file that begins with a hole asks for
 * the safe alignment, as a host file.
 */

import { assertInvariant, Qcow2BenchError } from '../core/error.ts';
import type { Capabilities } from './capabilities.ts';
import { SAFE_ALIGNMENT } from './direct-io.ts';
import { noDirect } from './host-file-open.ts';
import { MemoryDevice, type MemoryDeviceOptions } from './memory-device.ts';
import { NullDevice } from './null-device.ts';
import { SparseBytes } from './sparse-bytes.ts';
import type { CreateOptions, OpenOptions, RenameOptions, Storage } from './storage.ts';
import { fileExists } from './temporary-file.ts';

/** What memory models by default. */
export const MEMORY_CAPABILITIES: Capabilities = {
  platform: process.platform,
  fileSystem: undefined,
  direct: { ok: true, alignment: 512 },
  zeroRange: { ok: true },
  punchHole: { ok: true },
};

/** Memory that gives back what was written. */
export class MemoryStorage implements Storage {
  readonly kind: 'memory' | 'null' = 'memory';
  readonly capabilities: Capabilities;
  readonly #files = new Map<string, SparseBytes>();

  constructor(capabilities: Capabilities = MEMORY_CAPABILITIES) {
    this.capabilities = capabilities;
  }

  create(name: string, options: CreateOptions = {}): MemoryDevice {
    if (options.overwrite !== true) this.#refuseExisting(name);
    return this.#device(name, options, new SparseBytes());
  }

  open(name: string, options: OpenOptions = {}): MemoryDevice {
    const bytes = this.#files.get(name);
    if (bytes === undefined) {
      throw new Qcow2BenchError('file-missing', 'no such file: check the path', {
        path: this.pathOf(name),
      });
    }
    return this.#device(name, options, bytes);
  }

  exists(name: string): boolean {
    return this.#files.has(name);
  }

  /** Of all files, in the order in which they were made. */
  names(): readonly string[] {
    return [...this.#files.keys()];
  }

  temporaryName(name: string): string {
    return `${name}.part`;
  }

  remove(name: string): void {
    this.#files.get(name)?.discardAll();
    this.#files.delete(name);
  }

  rename(name: string, newName: string, { overwrite }: RenameOptions): void {
    const bytes = this.#files.get(name);
    assertInvariant(bytes !== undefined, 'renamed file exists');
    if (!overwrite) this.#refuseExisting(newName);
    this.#files.delete(name);
    this.#files.set(newName, bytes);
  }

  describe(): string {
    return 'memory';
  }

  /** As in error messages. */
  pathOf(name: string): string {
    return `${this.kind}:${name}`;
  }

  protected makeDevice(options: MemoryDeviceOptions): MemoryDevice {
    return new MemoryDevice(options);
  }

  /** What O_DIRECT asks of requests to the file. */
  protected alignmentOf(bytes: SparseBytes, alignment: number): number {
    const isTold = bytes.size > 0 && bytes.extentAt(0).isData;
    return isTold ? alignment : Math.max(alignment, SAFE_ALIGNMENT);
  }

  #refuseExisting(name: string): void {
    if (!this.#files.has(name)) return;
    throw fileExists(this.pathOf(name));
  }

  #device(name: string, options: OpenOptions, bytes: SparseBytes): MemoryDevice {
    const { direct, zeroRange, punchHole } = this.capabilities;
    if (options.direct === true && !direct.ok) throw noDirect(this.pathOf(name), direct.reason);
    this.#files.set(name, bytes);
    return this.makeDevice({
      label: options.label,
      path: this.pathOf(name),
      requestAlignment: options.direct === true && direct.ok ? this.alignmentOf(bytes, direct.alignment) : 1,
      canZeroRange: zeroRange.ok,
      canPunchHole: punchHole.ok,
      readOnly: options.readOnly,
      bytes,
    });
  }
}

/** Memory that forgets guest data: what a run on it takes is the harness and the engine. */
export class NullStorage extends MemoryStorage {
  override readonly kind = 'null';

  override describe(): string {
    return 'memory that discards guest data';
  }

  protected override makeDevice(options: MemoryDeviceOptions): MemoryDevice {
    return new NullDevice(options);
  }

  /** Where guest data are forgotten a file begins with a hole, whatever was written there. */
  protected override alignmentOf(_bytes: SparseBytes, alignment: number): number {
    return alignment;
  }
}
