/** The lines that `advise` prints are taken by qemu-img, QEMU and libvirt, and mean the same to them. */

import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { CACHE_MODES, type CacheMode } from '../../src/result/vocabulary.ts';
import {
  blockdevValue,
  createWords,
  deviceValue,
  libvirtXml,
  pasteLines,
} from '../../src/study/paste-lines.ts';
import { studyTable, type StudyRow } from '../../src/study/table.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { smallResult, type SmallCell } from './small-study.ts';

const CACHE_DOCUMENT = readFileSync(new URL('../../docs/cache-modes.md', import.meta.url), 'utf8');
const directory = testDirectory();
const isDirect = probeCapabilities(directory).direct.ok;
const SHAPES: readonly SmallCell[] = [
  { format: 'raw', refcounts: null, clusterSize: null },
  { format: 'raw', refcounts: null, clusterSize: null, shape: { preallocation: 'falloc' } },
  { refcounts: 'eager' },
  { refcounts: 'lazy', shape: { preallocation: 'metadata' } },
  { refcounts: 'lazy', clusterSize: 262_144, shape: { extendedL2: true, preallocation: 'falloc' } },
];
const rows = studyTable(
  smallResult(SHAPES.flatMap((shape) => CACHE_MODES.map((cache) => ({ ...shape, cache })))),
).rows.map((row, index) => ({
  row,
  name: [...createWords(row.cell, { path: 'X', virtualSize: 1 }), row.cell.cache].join(' '),
  index,
}));

const skipped = reasonToSkip('qemu-img');
const noDaemon = reasonToSkip('qemu-storage-daemon');

describe.skipIf(skipped !== undefined)(`qemu-img (${skipped ?? 'found'})`, () => {
  test.each(rows)('makes the image, and QEMU opens it: $name', ({ row, index }) => {
    const path = join(directory, `i${String(index)},x`);
    const made = spawnSync('qemu-img', [...createWords(row.cell, { path, virtualSize: 64 * 2 ** 20 })]);
    expect(made.stderr.toString()).toBe('');
    expect(made.status).toBe(0);
    expectShape(row, path);
    if (noDaemon !== undefined || (!isDirect && ['none', 'directsync'].includes(row.cell.cache))) return;
    const commands = ['qmp_capabilities', 'quit'].map((execute) => JSON.stringify({ execute })).join('\n');
    const words = [
      ...['--blockdev', blockdevValue(row.cell, { path, l2CacheSize: 1024 * 1024 })],
      ...['--chardev', 'stdio,id=c', '--monitor', 'chardev=c'],
    ];
    const served = spawnSync('qemu-storage-daemon', words, { input: `${commands}\n`, timeout: 60_000 });
    expect(served.stderr.toString()).toBe('');
    expect(served.status).toBe(0);
  });
});

test('the lines keep a path with commas, blanks and quotes whole', () => {
  const path = "/a,b'c<d e";
  const lines = pasteLines(cellOf({ refcounts: 'lazy' }), { path, absolutePath: path, virtualSize: 512 });
  const textOf = (name: string): string | undefined => lines.find(({ tool }) => tool === name)?.text;
  expect(wordsOf(textOf('qemu-img') ?? '').at(-2)).toBe(path);
  expect(wordsOf(textOf('QEMU')?.split('\n')[0] ?? '')[1]).toContain("file.filename=/a,,b'c<d e,");
  expect(textOf('libvirt')).toContain("file='/a,b&apos;c&lt;d e'");
});

/** As a shell reads them. */
function wordsOf(line: string): readonly string[] {
  return spawnSync('sh', ['-c', `printf '%s\\0' ${line}`])
    .stdout.toString()
    .split('\0')
    .slice(0, -1);
}

/** What QEMU shows of a disk: QMP's `query-block`. */
function shownCache(words: readonly string[]): unknown {
  const machine = ['-machine', 'pc,accel=tcg', '-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio'];
  const commands = ['qmp_capabilities', 'query-block', 'quit'].map((execute) => JSON.stringify({ execute }));
  const { status, stdout, stderr } = spawnSync('qemu-system-x86_64', [...machine, ...words], {
    input: commands.join('\n'),
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const shown = stdout.split('\n').find((line) => line.includes('"inserted"')) ?? '{}';
  const { return: disks = [] } = JSON.parse(shown) as ShownDisks;
  expect(disks).toHaveLength(1);
  return disks[0]?.inserted.cache;
}

interface ShownDisks {
  readonly return?: readonly { readonly inserted: { readonly cache: unknown } }[];
}

const noMachine = reasonToSkip('qemu-img', 'qemu-system-x86_64');

describe.skipIf(noMachine !== undefined)(`a virtual machine (${noMachine ?? 'found'})`, () => {
  test('is in cache=writeback if no mode is given', () => {
    const path = join(directory, 'vm-default');
    expect(spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']).status).toBe(0);
    const device = ['-device', 'virtio-blk-pci,drive=d'];
    const node = `driver=qcow2,node-name=d,file.driver=file,file.filename=${path}`;
    expect(shownCache(['-blockdev', node, ...device])).toEqual(documentedFlags('writeback'));
    const drive = `if=none,id=d,format=qcow2,file=${path}`;
    expect(shownCache(['-drive', drive, ...device])).toEqual(documentedFlags('writeback'));
  });

  test.each(CACHE_MODES)('has with the lines of cache=%s what -drive cache= gives it', (cache) => {
    if (!isDirect && ['none', 'directsync'].includes(cache)) return;
    const cell = cellOf({ cache });
    const path = join(directory, `vm-${cache}`);
    expect(spawnSync('qemu-img', [...createWords(cell, { path, virtualSize: 2 ** 20 })]).status).toBe(0);
    const drive = ['-drive', `if=none,id=d,format=qcow2,file=${path},cache=${cache}`];
    const usual = shownCache([...drive, '-device', 'virtio-blk-pci,drive=d']);
    expect(usual).toEqual(documentedFlags(cache));
    const pasted = ['-blockdev', blockdevValue(cell, { path }), '-device', deviceValue(cell)];
    expect(shownCache(pasted)).toEqual(usual);
  });
});

/** As docs/cache-modes.md has them. */
function documentedFlags(cache: CacheMode): Readonly<Record<string, boolean>> {
  const row = CACHE_DOCUMENT.split('\n').find((line) => line.startsWith(`| \`${cache}\` `));
  const flags =
    row
      ?.split('|')[2]
      ?.split(',')
      .map((word) => word.trim() === 'on') ?? [];
  const [writeback = false, direct = false, noFlush = false] = flags;
  expect(flags).toHaveLength(3);
  return { writeback, direct, 'no-flush': noFlush };
}

/**
 * libvirt without a daemon: its driver for QEMU in the process of virsh. As root it would want a user
 * of its own, so it is no user of a namespace.
 */
function virsh(script: string): SpawnSyncReturns<string> {
  const folder = mkdtempSync(join(directory, 'libvirt-'));
  const [command = '', ...words] = [
    ...(process.getuid?.() === 0 ? ['unshare', '--user'] : []),
    ...['virsh', '-q', '-c', `qemu:///embed?root=${folder}`],
  ];
  return spawnSync(command, words, {
    input: script,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, HOME: folder, XDG_RUNTIME_DIR: folder, XDG_CACHE_HOME: folder },
  });
}

/** libvirt-clients, libvirt-daemon-driver-qemu and libxml2-utils of Debian, which CI does without. */
function withoutLibvirt(): string | undefined {
  const tools = ['virt-xml-validate', 'xmllint', 'virsh'];
  const missing = tools.find((tool) => spawnSync(tool, ['--version']).error !== undefined);
  if (missing !== undefined) return `no ${missing}`;
  if (noMachine !== undefined) return noMachine;
  const { status, stderr, error } = virsh('uri\n');
  const said = error?.message ?? stderr.trim().split('\n').at(-1);
  return status === 0 && stderr === '' ? undefined : `no driver of libvirt for QEMU: ${said ?? ''}`;
}

const noLibvirt = withoutLibvirt();

describe.skipIf(noLibvirt !== undefined)(`libvirt (${noLibvirt ?? 'found'})`, () => {
  const l2CacheSize = 4 * 2 ** 20;
  const cells = [
    ...CACHE_MODES.map((cache) => cellOf({ cache })),
    cellOf({ cache: 'none', discard: 'ignore' }),
    cellOf({ format: 'raw', refcounts: null, clusterSize: null }),
  ];
  const domains = cells.map((cell, index) => {
    const path = join(directory, `domain-${String(index)}.xml`);
    const disk = libvirtXml(cell, { absolutePath: "/images/a,b'c<d.qcow2", l2CacheSize });
    writeFileSync(path, domainOf(disk));
    return path;
  });

  test('the XML is that of its schema', () => {
    for (const path of domains) {
      const { status, stdout, stderr } = spawnSync('virt-xml-validate', [path, 'domain']);
      expect(stdout.toString() + stderr.toString()).toBe(`${path} validates\n`);
      expect(status).toBe(0);
    }
  });

  test('makes the options of it that our line for QEMU has', () => {
    const script = domains.map((path) => `domxml-to-native qemu-argv ${path}\n`).join('');
    const { status, stdout, stderr } = virsh(script);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const lines = stdout.split('\n').filter((line) => line.includes('-blockdev'));
    expect(lines).toHaveLength(cells.length);
    for (const [index, cell] of cells.entries()) {
      const objects = [...(lines[index] ?? '').matchAll(/-(?:blockdev|device) '(\{.*?\})'(?= |$)/g)].map(
        ([, text = '']) =>
          JSON.parse(text.replaceAll(String.raw`'\''`, "'")) as Readonly<Record<string, unknown>>,
      );
      const driver = (name: string) => objects.find((each) => each['driver'] === name);
      const ours = blockdevValue(cell, { path: '', l2CacheSize });
      const valueOf = (key: string) => new RegExp(`(?<=^|,)${key}=([^,]*)`).exec(ours)?.[1];
      for (const [node, prefix] of [
        // Newer libvirts have no node of their own for raw.
        [driver(cell.format) ?? driver('file'), ''],
        [driver('file'), 'file.'],
      ] as const) {
        expect(node?.['discard']).toBe(valueOf(`${prefix}discard`));
        expect(node?.['cache']).toEqual({
          direct: valueOf(`${prefix}cache.direct`) === 'on',
          'no-flush': valueOf(`${prefix}cache.no-flush`) === 'on',
        });
      }
      expect(driver('file')?.['filename']).toBe("/images/a,b'c<d.qcow2");
      const isWriteBack = deviceValue(cell).endsWith('write-cache=on');
      expect(driver('virtio-blk-pci')?.['write-cache']).toBe(isWriteBack ? 'on' : 'off');
      const bothCaches = cell.refcounts === null ? undefined : l2CacheSize + 4 * 65_536;
      expect(driver(cell.format)?.['cache-size']).toBe(bothCaches);
    }
  });
});

function domainOf(disk: string): string {
  return `<domain type='qemu'><name>t</name><memory>65536</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${disk}</devices></domain>`;
}

function cellOf(cell: SmallCell): StudyRow['cell'] {
  const [row] = studyTable(smallResult([cell])).rows;
  if (row === undefined) throw new Error('no row');
  return row.cell;
}

function expectShape({ cell }: StudyRow, path: string): void {
  const info = spawnSync('qemu-img', ['info', '--output=json', path]).stdout.toString();
  const {
    format,
    'cluster-size': clusterSize,
    'format-specific': specific,
  } = JSON.parse(info) as {
    readonly format: string;
    readonly 'cluster-size'?: number;
    readonly 'format-specific'?: { readonly data: Readonly<Record<string, unknown>> };
  };
  expect(format).toBe(cell.format);
  if (cell.format !== 'qcow2') return;
  expect(clusterSize).toBe(cell.clusterSize);
  expect(specific?.data['lazy-refcounts']).toBe(cell.refcounts === 'lazy');
  expect(specific?.data['extended-l2']).toBe(cell.shape?.extendedL2 === true);
}
