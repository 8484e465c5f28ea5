/**
 * What a filter passes on: every argument of every operation, as it got it. The compiler holds each
 * call to `inner` to all arguments; this holds them to their values, and a new filter to this list.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import type { Pending } from '../../src/core/pending.ts';
import { Recorder as CrashRecorder } from '../../src/crash/recorder.ts';
import { AlignedDevice } from '../../src/device/aligned-device.ts';
import type { BlockDevice, WritePart } from '../../src/device/block-device.ts';
import { Deferral, DeferredDevice } from '../../src/device/deferred-device.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import { HostLog } from '../../src/device/host-log.ts';
import { HostMeter } from '../../src/device/host-meter.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { Meter } from '../../src/device/meter.ts';
import type { Purpose } from '../../src/device/purpose.ts';
import { HostTimes, Stopwatch } from '../../src/device/stopwatch.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import { WriteLog } from '../../src/device/write-log.ts';
import { MetadataDevice } from '../../src/format/qcow2/metadata/metadata-device.ts';

type Operation =
  | 'read'
  | 'write'
  | 'writeMerged'
  | 'zeroRange'
  | 'punchHole'
  | 'reserve'
  | 'truncate'
  | 'sync'
  | 'noteChange'
  | 'close';

const bytes = new Uint8Array(512);
const parts: readonly WritePart[] = [{ purpose: 'data', bytes }];

/** One call of each operation; `Required`: an argument that is added to one is wanted here. */
const CALLS: { readonly [Name in Operation]: Readonly<Required<Parameters<BlockDevice[Name]>>> } = {
  read: [512, bytes, 'l2-table'],
  write: [512, bytes, 'l2-table', 8, 16],
  writeMerged: [512, parts],
  zeroRange: [512, 1024, 'cow'],
  punchHole: [512, 1024, 'data', true],
  reserve: [512, 1024, 'data'],
  truncate: [4096, 'header', 'reserved'],
  sync: ['close', 3],
  noteChange: [],
  close: [],
};
const OPERATIONS = Object.keys(CALLS) as readonly Operation[];

/** Filters by their class names, each around a device. */
const FILTERS: Readonly<Record<string, (inner: BlockDevice) => BlockDevice>> = {
  AlignedDevice: (inner) => new AlignedDevice(inner),
  DeferredDevice: (inner) => new DeferredDevice(inner, new Deferral()),
  FaultDevice: (inner) => new FaultDevice(inner, () => undefined),
  HostLog: (inner) => new HostLog(inner, { phases: new HostMeter(), sink: () => {} }),
  MetadataDevice: (inner) => new MetadataDevice(inner),
  Meter: (inner) => new Meter(inner, new HostMeter()),
  RecordedFile: (inner) => new CrashRecorder().device(inner, 0),
  Stopwatch: (inner) => new Stopwatch(inner, new HostTimes(), () => 0),
  SyncElision: (inner) => new SyncElision(inner),
  WriteLog: (inner) => new WriteLog(inner),
};

/** What a filter is there to deal with, and so does not pass on as it is. */
const DEALT_WITH: Readonly<Record<string, readonly Operation[]>> = {
  SyncElision: ['sync', 'noteChange'],
};

/** Filters that end a path instead of watching it. */
const NOT_LISTED: Readonly<Record<string, string>> = {
  OverlappedFile: 'the file itself, with its own system calls',
  ModelDevice: 'a modelled file: nothing below it but bytes',
  KeptOpen: 'keeps a device open while an image is made on it',
  ShortWrites: 'ends a write after its first half, if it is the one to fail',
  SyncedAtClose: 'leaves out syncs until the close, and nothing else',
  WithoutSync: 'leaves out syncs, and nothing else',
};

/** Records each call with all its arguments, and does nothing. */
class Recorder extends MemoryDevice {
  readonly calls: unknown[][] = [];

  override read(...all: unknown[]): undefined {
    this.#note('read', all);
  }
  override write(...all: unknown[]): undefined {
    this.#note('write', all);
  }
  override writeMerged(...all: unknown[]): undefined {
    this.#note('writeMerged', all);
  }
  override zeroRange(...all: unknown[]): undefined {
    this.#note('zeroRange', all);
  }
  override punchHole(...all: unknown[]): undefined {
    this.#note('punchHole', all);
  }
  override reserve(...all: unknown[]): undefined {
    this.#note('reserve', all);
  }
  override truncate(...all: unknown[]): undefined {
    this.#note('truncate', all);
  }
  override sync(...all: unknown[]): undefined {
    this.#note('sync', all);
  }
  override noteChange(): void {
    this.#note('noteChange', []);
  }
  override close(): undefined {
    this.#note('close', []);
  }

  #note(name: Operation, all: readonly unknown[]): void {
    this.calls.push([name, ...all]);
  }
}

async function call(device: BlockDevice, name: Operation): Promise<void> {
  const method = device[name] as (...all: unknown[]) => Pending;
  await method.apply(device, [...CALLS[name]]);
}

describe.each(Object.entries(FILTERS))('%s', (name, around) => {
  const passed = OPERATIONS.filter((each) => DEALT_WITH[name]?.includes(each) !== true);

  test.each(passed)('passes on every argument of %s', async (operation) => {
    const recorder = new Recorder();
    await call(around(recorder), operation);
    expect(recorder.calls).toEqual([[operation, ...CALLS[operation]]]);
  });
});

test('what O_DIRECT pads keeps its purpose, and a hole that is to read as zeroes stays one', () => {
  const recorder = new Recorder({ requestAlignment: 512 });
  const device: BlockDevice = new AlignedDevice(recorder);
  void device.punchHole(100, 2048, 'data', true);
  void device.punchHole(100, 2048, 'data');
  const holes = recorder.calls.filter(([name]) => name === 'punchHole');
  expect(holes).toEqual([
    ['punchHole', 512, 1536, 'data', true],
    ['punchHole', 100, 412, 'data', false],
    ['punchHole', 512, 1536, 'data', false],
    ['punchHole', 2048, 100, 'data', false],
  ]);
});

test('every filter of the program is listed here', () => {
  const found = new Set<string>();
  const source = join(import.meta.dirname, '../../src');
  for (const path of readdirSync(source, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.ts')) continue;
    for (const [, name] of readFileSync(join(source, path), 'utf8').matchAll(
      /class (\w+) extends DeviceFilter/g,
    )) {
      if (name !== undefined) found.add(name);
    }
  }
  expect([...found].sort()).toEqual([...Object.keys(FILTERS), ...Object.keys(NOT_LISTED)].sort());
});

/** Never made: what its calls leave out has to be an error of the compiler. */
export class Forgetful extends DeviceFilter {
  override write(offset: number, written: Uint8Array, purpose: Purpose): Pending {
    // @ts-expect-error a filter cannot drop which bytes changed
    return this.inner.write(offset, written, purpose);
  }

  override punchHole(offset: number, length: number, purpose: Purpose): Pending {
    // @ts-expect-error nor that zeroes are wanted
    return super.punchHole(offset, length, purpose);
  }
}
