/**
 * A virtual machine's view: the same requests through the block device of a running
 * `qemu-system-x86_64` (its monitor's `qemu-io` command, which uses the device's backend without a
 * guest) and through the NBD export of a `qemu-storage-daemon`, each under strace. Their host
 * operations are those of `qemu-io` alone, and ours.
 *
 * The requests begin a recording; what it lacks of FUA, discards and zero-writes follows.
 */

import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { copySparse } from '../../src/device/file-copy.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { CACHE_MODE_RULES, type CacheMode } from '../../src/format/cache-mode.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { nearestQemuProfile } from '../../src/format/qemu-profile.ts';
import { compareOperations } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { qemuIoScript } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg, findQemuIo } from '../../src/peer/qemu-tools.ts';
import { traceProgram } from '../../src/peer/strace.ts';
import { findSource, openStream } from '../../src/workload/library.ts';
import type { Request } from '../../src/workload/request.ts';
import { someOf } from '../amount.ts';
import { expectSameFiles, expectSameOperations } from '../format/expect-same.ts';
import { type SystemTool, reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { servePeerRequests } from './peer-stack.ts';
import { ask } from './qemu-cases.ts';

const RECORDING = 'sqlite-wal';
const REQUESTS = 60;
const MIB = 1024 * 1024;
const CLUSTER = 65_536;

interface Served {
  readonly path: string;
  readonly format: Format;
  readonly cache: CacheMode;
  readonly requests: readonly Request[];
}

interface Program {
  readonly tool: SystemTool;
  /** Serves the requests under strace. */
  readonly trace: (served: Served) => Promise<readonly HostOperation[]>;
}

const PROGRAMS: readonly Program[] = [
  { tool: 'qemu-system-x86_64', trace: traceMachine },
  { tool: 'qemu-storage-daemon', trace: traceDaemon },
];

async function traceMachine(served: Served): Promise<readonly HostOperation[]> {
  const { path, format, cache, requests } = served;
  // What qemu-io reads line by line, as commands of the machine protocol.
  const lines = qemuIoScript(requests)
    .split('\n')
    .filter((line) => line !== '' && line !== 'quit')
    .map((line) => ({
      execute: 'human-monitor-command',
      arguments: { 'command-line': `qemu-io disk "${line}"` },
    }));
  const input = [{ execute: 'qmp_capabilities' }, ...lines, { execute: 'quit' }];
  const { operations, outcome } = await traceProgram({
    strace: (await findQemuIo()).strace,
    command: 'qemu-system-x86_64',
    args: [
      ...['-M', 'none', '-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio', '-drive'],
      `if=none,id=disk,format=${format},file=${path},cache=${cache},discard=unmap`,
    ],
    input: input.map((command) => `${JSON.stringify(command)}\n`).join(''),
    files: { image: path },
    requests: requests.length,
  });
  expect(outcome.stdout).not.toMatch(/"error"|failed/);
  return operations;
}

async function traceDaemon({ path, format, cache, requests }: Served): Promise<readonly HostOperation[]> {
  const { direct, neverSync, flushAfterWrite } = CACHE_MODE_RULES[cache];
  const onOff = (isOn: boolean): string => (isOn ? 'on' : 'off');
  const caching = `cache.direct=${onOff(direct)},cache.no-flush=${onOff(neverSync)},discard=unmap`;
  const socket = `${path}.socket`;
  // The last client is gone before the daemon closes the image.
  const script = `
    qemu-storage-daemon \\
      --blockdev driver=file,node-name=file,filename=${path},${caching} \\
      --blockdev driver=${format},node-name=disk,file=file,${caching} \\
      --nbd-server addr.type=unix,addr.path=${socket} \\
      --export type=nbd,id=export,node-name=disk,writable=on,writethrough=${onOff(flushAfterWrite)} &
    daemon=$!
    until [ -S ${socket} ]; do kill -0 $daemon || exit 1; sleep 0.05; done
    qemu-io -t writeback -d unmap -f raw 'nbd+unix:///disk?socket=${socket}' || exit 1
    kill $daemon
    wait $daemon`;
  const { operations } = await traceProgram({
    strace: (await findQemuIo()).strace,
    command: 'sh',
    args: ['-c', script],
    input: qemuIoScript(requests),
    files: { image: path },
    requests: requests.length,
  });
  return operations;
}

async function recordedRequests(): Promise<{ readonly size: number; readonly requests: readonly Request[] }> {
  const source = await findSource(RECORDING);
  await using stream = await openStream(source, { limit: REQUESTS });
  const requests: Request[] = [];
  for await (const batch of stream.batches) requests.push(...batch);
  const durable = { ...ask.write(3 * CLUSTER, 4096), fua: true };
  const more = [
    durable,
    ask.flush(),
    { ...ask.zero(CLUSTER, CLUSTER), fua: true },
    ask.zero(0, 4 * CLUSTER, true),
    ask.discard(16 * MIB, 8 * CLUSTER),
    ask.read(0, 4096),
    ask.write(16 * MIB, 3 * CLUSTER),
  ];
  return { size: source.virtualSize, requests: [...requests, ...more] };
}

describe.each(PROGRAMS)('$tool', ({ tool, trace }) => {
  const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace', tool);
  const directory = testDirectory();

  const cells = (['qcow2 eager', 'qcow2 lazy', 'raw'] as const).flatMap((name) =>
    (['writethrough', 'writeback', 'none'] as const).map((cache) => ({ name, cache })),
  );
  it.skipIf(skip !== undefined).each(someOf(cells, 3))(
    'does as we do: $name, $cache',
    async ({ name, cache }) => {
      const said = runTool(tool, ['--version']);
      const like = nearestQemuProfile(/version (\S+)/.exec(said)?.[1] ?? '');
      const { size, requests } = await recordedRequests();
      const imageName = `${name.replace(' ', '-')}-${cache}`;
      const path = join(directory, imageName);
      const format = name === 'raw' ? 'raw' : 'qcow2';
      const options = name === 'qcow2 lazy' ? { lazy_refcounts: 'on' } : {};
      await createWithQemuImg(path, { format, size, options });
      await copySparse(path, `${path}-ours`);
      const theirs = await trace({ path, format, cache, requests });
      const ours = await servePeerRequests(requests, {
        storage: new FileStorage(directory, probeCapabilities(directory)),
        imageName: `${imageName}-ours`,
        format,
        cache,
        like,
      });
      const comparison = compareOperations(ours, theirs);
      expectSameOperations(comparison);
      expect(comparison.operations).toBeGreaterThan(REQUESTS / 2);
      await expectSameFiles(`${path}-ours`, path);
    },
  );
});
