/**
 * A setting as lines to paste: for qemu-img, QEMU, libvirt and Proxmox VE.
 *
 * Invariants: what is a default is left out; every line has the cache mode and the discards of the
 * cell, so that what runs is what was counted.
 */

import type { Cell } from '../result/schema.ts';
import { axisValue } from './axes.ts';

export interface PasteLine {
  readonly tool: string;
  readonly text: string;
}

/** What QEMU's cache modes are made of. */
const CACHE_FLAGS: Readonly<
  Record<Cell['cache'], { direct: boolean; noFlush: boolean; writeCache: boolean }>
> = {
  writethrough: { direct: false, noFlush: false, writeCache: false },
  directsync: { direct: true, noFlush: false, writeCache: false },
  writeback: { direct: false, noFlush: false, writeCache: true },
  none: { direct: true, noFlush: false, writeCache: true },
  unsafe: { direct: false, noFlush: true, writeCache: true },
};

const GIB = 2 ** 30;

/** @param disk `path` of the image, `virtualSize` in bytes, `l2CacheSize` if the default is too small. */
export function pasteLines(
  cell: Cell,
  disk: { readonly path: string; readonly virtualSize: number; readonly l2CacheSize?: number | undefined },
): readonly PasteLine[] {
  return [
    { tool: 'qemu-img', text: `qemu-img ${createWords(cell, disk).join(' ')}` },
    { tool: 'QEMU', text: qemuLine(cell, disk) },
    { tool: 'libvirt', text: libvirtXml(cell, disk) },
    { tool: 'Proxmox VE', text: proxmoxLines(cell, disk) },
  ];
}

/** The words after `qemu-img`. */
export function createWords(
  cell: Cell,
  { path, virtualSize }: { readonly path: string; readonly virtualSize: number },
): readonly string[] {
  const preallocation = axisValue(cell, 'preallocation');
  const options = [
    ...(cell.refcounts === 'lazy' ? ['lazy_refcounts=on'] : []),
    ...(preallocation === 'off' ? [] : [`preallocation=${preallocation}`]),
    ...(cell.clusterSize === null || cell.clusterSize === 65_536
      ? []
      : [`cluster_size=${String(cell.clusterSize)}`]),
    ...(axisValue(cell, 'extended-l2') === 'on' ? ['extended_l2=on'] : []),
  ];
  return [
    'create',
    '-f',
    cell.format,
    ...(options.length === 0 ? [] : ['-o', options.join(',')]),
    path,
    String(virtualSize),
  ];
}

/** The value of QEMU's and of qemu-storage-daemon's option for block devices. */
export function blockdevValue(
  cell: Cell,
  { path, l2CacheSize }: { readonly path: string; readonly l2CacheSize?: number | undefined },
): string {
  const { direct, noFlush } = CACHE_FLAGS[cell.cache];
  const cache = `cache.direct=${onOff(direct)},cache.no-flush=${onOff(noFlush)}`;
  const discard = axisValue(cell, 'discard');
  return [
    `driver=${cell.format},node-name=disk0,discard=${discard},${cache}`,
    ...(l2CacheSize === undefined || cell.refcounts === null ? [] : [`l2-cache-size=${String(l2CacheSize)}`]),
    `file.driver=file,file.filename=${path.replaceAll(',', ',,')},file.discard=${discard}`,
    `file.${cache.replace(',', ',file.')}`,
  ].join(',');
}

function qemuLine(
  cell: Cell,
  disk: { readonly path: string; readonly l2CacheSize?: number | undefined },
): string {
  const { writeCache } = CACHE_FLAGS[cell.cache];
  return [
    `-blockdev ${blockdevValue(cell, disk)}`,
    `-device virtio-blk-pci,drive=disk0,write-cache=${onOff(writeCache)}`,
  ].join('\n');
}

function libvirtXml(
  cell: Cell,
  { path, l2CacheSize }: { readonly path: string; readonly l2CacheSize?: number | undefined },
): string {
  const driver = `<driver name='qemu' type='${cell.format}' cache='${cell.cache}' discard='${axisValue(cell, 'discard')}'`;
  return [
    "<disk type='file' device='disk'>",
    ...(l2CacheSize === undefined || cell.refcounts === null
      ? [`  ${driver}/>`]
      : [
          `  ${driver}>`,
          `    <metadata_cache><max_size unit='bytes'>${String(l2CacheSize)}</max_size></metadata_cache>`,
          '  </driver>',
        ]),
    `  <source file='${escapedXml(path)}'/>`,
    "  <target dev='vda' bus='virtio'/>",
    '</disk>',
  ].join('\n');
}

/** Proxmox VE creates images itself, with what its storage has of the options. */
function proxmoxLines(cell: Cell, { virtualSize }: { readonly virtualSize: number }): string {
  const preallocation = axisValue(cell, 'preallocation');
  const gib = String(Math.ceil(virtualSize / GIB));
  const discard = axisValue(cell, 'discard') === 'unmap' ? 'on' : 'ignore';
  const lacks = [
    ...(cell.refcounts === 'lazy' ? ['lazy refcounts'] : []),
    ...(cell.clusterSize === null || cell.clusterSize === 65_536 ? [] : ['the cluster size']),
    ...(axisValue(cell, 'extended-l2') === 'on' ? ['extended L2'] : []),
  ];
  return [
    `pvesm set STORAGE --preallocation ${preallocation}`,
    `qm set VMID --scsi0 STORAGE:${gib},format=${cell.format},cache=${cell.cache},discard=${discard}`,
    ...(lacks.length === 0
      ? []
      : [`# Proxmox VE does not set ${lacks.join(', ')}: put the image of qemu-img in its place`]),
  ].join('\n');
}

function onOff(value: boolean): string {
  return value ? 'on' : 'off';
}

function escapedXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');
}
