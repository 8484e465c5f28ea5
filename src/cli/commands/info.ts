/** `info`: what an image says of itself. The file is opened read-only, and no other is opened. */

import { statSync } from 'node:fs';

import { humanSize } from '../../core/size.ts';
import { SUBCLUSTERS } from '../../format/qcow2/layout.ts';
import { hostImage } from '../../image/host-image.ts';
import { readImageInfo, type ImageInfo } from '../../image/image-info.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { flag, inGroup } from '../option-kinds.ts';
import { snapshotJson, snapshotTable } from '../snapshot-list.ts';
import type { Terminal } from '../terminal.ts';

/** What `stat` counts blocks in. */
const BLOCK_BYTES = 512;

export const infoCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', {
        type: 'string',
        demandOption: true,
        describe: 'raw, qcow2 or QED, told from its content',
      })
      .options(inGroup('Output:', { json: flag('Print the facts as JSON, named as in qemu-img info') })),

  run: async ({ image, json }, terminal) => {
    const info = await readImageInfo(hostImage(image, 'read'));
    const allocatedSize = statSync(image).blocks * BLOCK_BYTES;
    const described = { ...info, path: image };
    terminal.answer(
      json
        ? JSON.stringify(infoJson(described, allocatedSize), null, 2)
        : infoText(described, allocatedSize, terminal),
    );
    return EXIT.good;
  },
});

function infoText(info: ImageInfo, allocatedSize: number, { paint }: Terminal): string {
  const rows: (readonly [string, string])[] = [
    ['format', formatText(info)],
    ['virtual size', sizeText(info.virtualSize)],
    ['file size', `${sizeText(info.fileSize)}, of which ${humanSize(allocatedSize)} are allocated`],
  ];
  if (info.format !== 'raw') {
    const { backing } = info;
    rows.push(['cluster size', clusterText(info)]);
    if (info.format === 'qed') rows.push(['table size', humanSize(info.tableSize)]);
    if (info.format === 'qcow2') rows.push(['snapshots', String(info.snapshots.length)]);
    if (info.format === 'qcow2') rows.push(['compression', info.compressionType]);
    if (info.format === 'qcow2' && info.dataFile !== undefined) {
      const { name = 'not named', isRaw } = info.dataFile;
      rows.push(['data file', isRaw ? `${name} (readable as raw)` : name]);
    }
    rows.push([
      'backing file',
      backing === undefined ? 'none' : `${backing.name} (${backing.format ?? 'of unnamed format'})`,
    ]);
    rows.push(['state', stateText(info)]);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    paint.bold(info.path),
    ...rows.map(([name, value]) => `  ${paint.dim(name.padEnd(width))}  ${value}`),
    ...(info.format === 'qcow2' && info.snapshots.length > 0 ? [snapshotTable(info.snapshots)] : []),
  ].join('\n');
}

function formatText(info: ImageInfo): string {
  switch (info.format) {
    case 'raw':
      return 'raw (nothing in the file claims another)';
    case 'qcow2':
      return `qcow2, version ${String(info.version)}, ${info.refcounts} refcounts of ${String(info.refcountBits)} bits`;
    case 'qed':
      return 'qed';
  }
}

function clusterText(info: Exclude<ImageInfo, { readonly format: 'raw' }>): string {
  const size = humanSize(info.clusterSize);
  const hasParts = info.format === 'qcow2' && info.hasExtendedL2;
  return hasParts ? `${size}, of subclusters of ${humanSize(info.clusterSize / SUBCLUSTERS)}` : size;
}

function stateText(info: Exclude<ImageInfo, { readonly format: 'raw' }>): string {
  if (info.format === 'qcow2' && info.isCorrupt) return 'marked corrupt; it can only be read';
  return info.isDirty ? 'not closed cleanly; the next opening for writing repairs it' : 'closed cleanly';
}

function sizeText(bytes: number): string {
  return `${humanSize(bytes)} (${bytes.toLocaleString('en-US')} bytes)`;
}

function infoJson(info: ImageInfo, allocatedSize: number): Record<string, unknown> {
  const common = {
    filename: info.path,
    format: info.format,
    'virtual-size': info.virtualSize,
    'file-size': info.fileSize,
    'actual-size': allocatedSize,
  };
  if (info.format === 'raw') return common;
  const { backing } = info;
  return {
    ...common,
    'cluster-size': info.clusterSize,
    'dirty-flag': info.isDirty,
    ...(backing === undefined ? {} : { 'backing-filename': backing.name }),
    ...(backing?.format === undefined ? {} : { 'backing-filename-format': backing.format }),
    ...(info.format === 'qcow2' && info.snapshots.length > 0
      ? { snapshots: info.snapshots.map(snapshotJson) }
      : {}),
    'format-specific': { type: info.format, data: formatSpecific(info) },
  };
}

function formatSpecific(info: Exclude<ImageInfo, { readonly format: 'raw' }>): Record<string, unknown> {
  switch (info.format) {
    case 'qcow2':
      return {
        compat: info.version === 2 ? '0.10' : '1.1',
        'compression-type': info.compressionType,
        'lazy-refcounts': info.refcounts === 'lazy',
        'refcount-bits': info.refcountBits,
        ...(info.dataFile === undefined
          ? {}
          : { 'data-file': info.dataFile.name, 'data-file-raw': info.dataFile.isRaw }),
        corrupt: info.isCorrupt,
        ...(info.version === 2 ? {} : { 'extended-l2': info.hasExtendedL2 }),
      };
    case 'qed':
      return { 'table-size': info.tableSize };
  }
}
