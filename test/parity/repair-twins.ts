/**
 * One broken image, repaired by `check --repair` of this project's command line and by `qemu-img
 * check -r`, each on a copy of its own and under strace: what they wrote, in order, what they said,
 * and what they left.
 */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { HostLog } from '../../src/device/host-log.ts';
import type { Storage } from '../../src/device/storage.ts';
import type { RepairScope } from '../../src/format/check-report.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { formatOperation } from '../../src/peer/compare-operations.ts';
import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { traceProgram } from '../../src/peer/strace.ts';
import { ImageEditor } from '../format/qcow2/image-editor.ts';
import { checkedAs } from '../format/qcow2/qemu-checks.ts';
import { CHECK } from '../format/qemu-directory.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { crashQemuIo, ioWords, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import type { RepairCase } from './repair-cases.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** One side of a repair. */
export interface Repaired {
  /** As `W 0x20000 65536`, `P 0x50000 65536`, `T 0x201000`, `F`; reads are left out. */
  readonly operations: readonly string[];
  /** Of QEMU: the same without the sync that `repair-order` adds. */
  readonly asIssued?: readonly string[];
  readonly exitCode: number | undefined;
  /** The counts that a program printed as JSON; none where it failed before it had any. */
  readonly counts: Readonly<Record<string, unknown>> | undefined;
  /** What QEMU said of an image that it marked as corrupt in the midst of the repair. */
  readonly marking: string | undefined;
  /** The copy that was repaired. */
  readonly path: string;
}

export class RepairTwins {
  readonly directory = testDirectory();
  #files: FileStorage | undefined;
  #images = 0;

  /** Makes the image of a case; answers its path. */
  make(image: Omit<RepairCase, 'what' | 'scopes'>): string {
    const { format, options, written, then = [], writtenAfter = [], crashes, spoil, spoilQed } = image;
    const path = join(this.directory, `disk-${String(this.#images++)}`);
    const creation = options.replace('DATA', `${path}.data`);
    runTool('qemu-img', ['create', '-q', '-f', format, '-o', creation, path, '24M']);
    if (crashes === true) {
      crashQemuIo(written, path, { format });
    } else {
      runTool('qemu-io', ioWords(written, path, format));
    }
    if (then.length > 0) {
      runTool(
        'qemu-img',
        then.map((word) => (word === 'IMAGE' ? path : word)),
      );
    }
    if (writtenAfter.length > 0) runTool('qemu-io', ioWords(writtenAfter, path, format));
    const editor = new ImageEditor(readFileSync(path));
    spoil?.(editor);
    writeFileSync(path, spoilQed === undefined ? editor.bytes : spoilQed(editor.bytes));
    return path;
  }

  /** Puts an image of these bytes there; answers its path. */
  put(bytes: Uint8Array): string {
    const path = join(this.directory, `disk-${String(this.#images++)}`);
    writeFileSync(path, bytes);
    return path;
  }

  /** Ours, within this process: the same repair as the command line's, and no program to start. */
  async oursHere(path: string, scope: RepairScope): Promise<Repaired> {
    const copy = `${path}-ours-${scope}`;
    copyFileSync(path, copy);
    const operations: string[] = [];
    const storage = loggedStorage(this.#storage(), operations);
    let exitCode: number = CHECK.failed;
    const refused = await rejectionCodeOf(async () => {
      const name = basename(copy);
      const { report } = await checkImageFile({ storage, name, format: 'qcow2', repair: scope });
      exitCode = checkedAs(report).status;
    });
    if (refused !== undefined) operations.push(refused);
    return { operations, exitCode, counts: undefined, marking: undefined, path: copy };
  }

  /** Ours, of a copy of the image. */
  async ours(path: string, scope: RepairScope): Promise<Repaired> {
    const copy = `${path}-ours-${scope}`;
    return this.#traced(path, copy, process.execPath, [MAIN, 'check', copy, '--json', '--repair', scope]);
  }

  /** QEMU's, of a copy of the image. */
  async theirs(path: string, format: RepairCase['format'], scope: RepairScope): Promise<Repaired> {
    const { qemuImg } = await findQemuTools();
    const copy = `${path}-theirs-${scope}`;
    const words = ['check', '-f', format, '--output=json', '-r', scope, copy];
    const traced = await this.#traced(path, copy, qemuImg, words);
    return { ...traced, operations: inRepairOrder(traced.operations), asIssued: traced.operations };
  }

  #storage(): FileStorage {
    this.#files ??= new FileStorage(this.directory, probeCapabilities(this.directory));
    return this.#files;
  }

  async #traced(path: string, copy: string, command: string, args: readonly string[]): Promise<Repaired> {
    copyFileSync(path, copy);
    const { strace } = await findQemuTools();
    const { operations, outcome } = await traceProgram({
      strace,
      command,
      args,
      input: '',
      files: { image: copy },
      requests: undefined,
      // What is left of the damage is reported by the exit code.
      accepts: () => true,
    });
    const changes = operations.filter(({ op, error }) => op !== 'read' && error === undefined);
    return {
      operations: changes.map(formatOperation),
      exitCode: outcome.exitCode,
      counts: countsOf(outcome.stdout),
      marking: /Marking image as corrupt.*/.exec(outcome.stderr)?.[0],
      path: copy,
    };
  }
}

/**
 * With the one sync of ours that QEMU has not: between a rebuilt refcount table and the pointer to
 * it (repair-order).
 */
function inRepairOrder(operations: readonly string[]): readonly string[] {
  return operations.flatMap((operation, index) =>
    operation === 'W 0x30 12' && operations[index - 1] !== 'F' ? ['F', operation] : [operation],
  );
}

/** Host files whose changes are written down as they happen. */
function loggedStorage(files: Storage, operations: string[]): Storage {
  const open: Storage['open'] = (name, options) =>
    new HostLog(files.open(name, options), {
      phases: { phase: 'run' },
      sink: (record) => {
        if (record.op === 'read') return;
        const extent = record.op === 'sync' ? { offset: 0, length: 0 } : record;
        operations.push(formatOperation({ ...extent, op: record.op, file: record.file }));
      },
    });
  return {
    kind: files.kind,
    capabilities: files.capabilities,
    open,
    create: (name, options) => files.create(name, options),
    exists: (name) => files.exists(name),
    temporaryName: (name) => files.temporaryName(name),
    remove: (name) => files.remove(name),
    rename: (name, newName, options) => files.rename(name, newName, options),
    describe: () => files.describe(),
  };
}

/** QEMU leaves out counts that are zero, and has the end of the image only for qcow2. */
function countsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  const start = text.indexOf('{');
  if (start < 0) return undefined;
  const json = JSON.parse(text.slice(start, text.lastIndexOf('}') + 1)) as Record<string, unknown>;
  const leftOut = json['format'] === 'qed' ? ['filename', 'image-end-offset'] : ['filename'];
  return Object.fromEntries(Object.entries(json).filter(([name]) => !leftOut.includes(name)));
}
