/**
 * Two copies of one image, QEMU at work on one and our engine on the other, step by step: each step
 * must issue the same host operations and leave the same bytes. A step begins with what QEMU's last
 * one left.
 */

import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Stack, StackOptions } from '../../src/bench/stack.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import type { CheckReport } from '../../src/format/check-report.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { compareOperations, type Comparison } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { traceProgram } from '../../src/peer/strace.ts';
import { judgeRuns, type TaggedRecord } from '../../src/peer/varying-order.ts';
import type { Request } from '../../src/workload/request.ts';
import { expectSameBytes, expectSameOperations } from '../format/expect-same.ts';
import { serveRequests } from '../format/serve-requests.ts';
import { type SystemTool, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { openPeerStack, withPeerStack } from './peer-stack.ts';

export type SnapshotAction = 'create' | 'apply' | 'delete';

const SNAPSHOT_OPTION: Readonly<Record<SnapshotAction, string>> = { create: '-c', apply: '-a', delete: '-d' };

export interface TwinOptions {
  /** Default qcow2. */
  readonly format?: Format;
  /** Of a backing file whose format the one over it cannot name. */
  readonly unnamedBackingFormat?: Format | undefined;
}

export interface RunOptions {
  readonly cache?: CacheMode;
  /** Further options of QEMU's block layer. */
  readonly imageOptions?: Readonly<Record<string, string>>;
}

export class TwinImages {
  readonly directory = testDirectory();
  readonly #name = 'disk';
  readonly #options: TwinOptions;
  readonly #storage: FileStorage;

  constructor(options: TwinOptions = {}) {
    this.#options = options;
    this.#storage = new FileStorage(this.directory, probeCapabilities(this.directory));
  }

  get theirs(): string {
    return join(this.directory, this.#name);
  }

  get ours(): string {
    return join(this.directory, `${this.#name}-ours`);
  }

  get #format(): Format {
    return this.#options.format ?? 'qcow2';
  }

  /** A program in the directory of the images; nothing is compared. */
  run(tool: SystemTool, ...args: readonly string[]): string {
    return runTool(tool, args, this.directory);
  }

  /** A file beside the images. */
  read(name: string): Uint8Array {
    return readFileSync(join(this.directory, name));
  }

  /** Both sides serve the requests from open to close. */
  async serve(requests: readonly Request[], what: string, options: RunOptions = {}): Promise<void> {
    const { cache = 'writeback', imageOptions } = options;
    this.copy();
    const before = `${this.theirs}-before`;
    copyFileSync(this.theirs, before);
    const ours = await this.withOurs(cache, ({ backend }, begin) => serveRequests(backend, requests, begin));
    const { comparison } = await judgeRuns(ours, (slowed) => {
      copyFileSync(before, this.theirs);
      const format = this.#format;
      return runQemuIo({ path: this.theirs, format, cache, requests, imageOptions, slowed });
    });
    rmSync(before);
    this.#expectIdentical(comparison, what);
  }

  /** Our engine alone serves the requests on a copy of its own; answers its host operations. */
  async serveOurs(
    requests: readonly Request[],
    cache: CacheMode = 'writeback',
  ): Promise<readonly HostLogRecord[]> {
    this.copy();
    return this.withOurs(cache, ({ backend }) => serveRequests(backend, requests));
  }

  /** Our engine opens QEMU's file itself, read-only, reads the whole disk and closes it. */
  async readOurs(): Promise<Uint8Array> {
    await using stack = await openPeerStack({ ...this.#stackOptions(this.#name), readOnly: true });
    const bytes = new Uint8Array(stack.image.virtualSize);
    await stack.image.read(0, bytes);
    await stack.close();
    return bytes;
  }

  /** Both sides do something with a snapshot, by its name. */
  async snapshot(
    action: SnapshotAction,
    name: string,
    what: string,
    options: { readonly ignoreSyncs?: boolean } = {},
  ): Promise<void> {
    this.copy();
    const theirs = await this.trace('snapshot', SNAPSHOT_OPTION[action], name, this.theirs);
    const taken = await this.#timeOfLast();
    const ours = await this.withOurs('writeback', async ({ image }) => {
      if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
      if (action === 'create') await image.snapshots.create({ name, ...taken });
      else await image.snapshots[action](name);
    });
    const isCompared = ({ op }: { readonly op: string }): boolean =>
      options.ignoreSyncs !== true || op !== 'sync';
    this.expectSame(ours.filter(isCompared), theirs.filter(isCompared), what);
  }

  /** Neither side can take the snapshot; what they leave of the attempt is the same too. */
  async refusedSnapshot(name: string, ourCode: string, theirWords: string): Promise<void> {
    this.copy();
    expect(() => this.run('qemu-img', 'snapshot', '-c', name, this.theirs)).toThrow(theirWords);
    await this.withOurs('writeback', async ({ image }) => {
      if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
      const taken = image.snapshots.create({ name, seconds: 0, nanoseconds: 0 });
      await expect(taken).rejects.toMatchObject({ code: ourCode });
    });
    this.expectSameBytes(`the refused snapshot ${name}`);
  }

  /** The host operations of qemu-img on the image. */
  async trace(...args: readonly string[]): Promise<readonly HostOperation[]> {
    const tools = await findQemuTools();
    const command = tools.qemuImg;
    const files = { image: this.theirs };
    const traced = await traceProgram({
      strace: tools.strace,
      command,
      args,
      input: '',
      files,
      requests: undefined,
    });
    return traced.operations;
  }

  /** As `trace`, of a line of the shell: for a program that ends with an error. */
  async traceShell(line: string): Promise<readonly HostOperation[]> {
    const { strace } = await findQemuTools();
    const files = { image: this.theirs };
    const args = ['-c', line];
    const traced = await traceProgram({
      strace,
      command: '/bin/sh',
      args,
      input: '',
      files,
      requests: undefined,
    });
    return traced.operations;
  }

  /** Our engine on its copy, opened, used and closed; answers its host operations. */
  withOurs(
    cache: CacheMode,
    use: (stack: Stack, begin: (request: number | undefined) => void) => Promise<void>,
  ): Promise<readonly TaggedRecord[]> {
    return withPeerStack({ ...this.#stackOptions(`${this.#name}-ours`), cache }, use);
  }

  /** As `withOurs`, and then gone as a program that was killed. */
  async abandonOurs(use: (stack: Stack) => Promise<void>): Promise<void> {
    await using stack = await openPeerStack(this.#stackOptions(`${this.#name}-ours`));
    await use(stack);
  }

  /** Our check of our copy, which changes nothing. */
  async checkOurs(): Promise<CheckReport> {
    await using stack = await openPeerStack({ ...this.#stackOptions(`${this.#name}-ours`), readOnly: true });
    if (!(stack.image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
    return await stack.image.check();
  }

  expectSame(ours: readonly HostLogRecord[], theirs: readonly HostOperation[], what: string): void {
    const ignoreFiles = ['backing:0', 'backing:1', 'backing:2'];
    this.#expectIdentical(compareOperations(ours, theirs, { ignoreFiles }), what);
  }

  #expectIdentical(comparison: Comparison, what: string): void {
    expectSameOperations(comparison, what);
    this.expectSameBytes(what);
  }

  expectSameBytes(what: string): void {
    expectSameBytes(readFileSync(this.ours), readFileSync(this.theirs), what);
  }

  /** Makes ours what theirs is. */
  copy(): void {
    copyFileSync(this.theirs, this.ours);
  }

  #stackOptions(imageName: string): StackOptions {
    return {
      storage: this.#storage,
      imageName,
      format: this.#format,
      backingPolicy: { unnamedFormat: this.#options.unnamedBackingFormat },
      cache: 'writeback',
    };
  }

  /** When QEMU took the last snapshot of its table. */
  async #timeOfLast(): Promise<{ readonly seconds: number; readonly nanoseconds: number }> {
    await using stack = await openPeerStack({ ...this.#stackOptions(this.#name), readOnly: true });
    if (!(stack.image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
    const { seconds = 0, nanoseconds = 0 } = stack.image.snapshots.list.at(-1) ?? {};
    return { seconds, nanoseconds };
  }
}
