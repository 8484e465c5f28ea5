/**
 * A setting as lines to paste: for qemu-img, QEMU, libvirt and Proxmox VE.
 *
 * Invariants: what is a default is left out; every line has the cache mode and the discards of the
 * cell, so that what runs is what was counted.
 */

import { shellWord } from '../core/shell-word.ts';
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

export interface PastedDisk {
  readonly path: string;
  /** Of the same file: libvirt takes no other. */
  readonly absolutePath: string;
  /** Bytes. */
  readonly virtualSize: number;
  /** Bytes, if the default is too small for the tables of the disk. */
  readonly l2CacheSize?: number | undefined;
}

export function pasteLines(cell: Cell, disk: PastedDisk): readonly PasteLine[] {
  return [
    { tool: 'qemu-img', text: ['qemu-img', ...createWords(cell, disk).map(shellWord)].join(' ') },
    { tool: 'QEMU', text: qemuLine(cell, disk) },
    { tool: 'libvirt', text: libvirtXml(cell, disk) },
    { tool: 'Proxmox VE', text: proxmoxLines(cell, disk) },
  ];
}

/** The words after `qemu-img`. */
export function createWords(
  cell: Cell,
  { path, virtualSize }: Pick<PastedDisk, 'path' | 'virtualSize'>,
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
  { path, l2CacheSize }: Pick<PastedDisk, 'path' | 'l2CacheSize'>,
): string {
  const { direct, noFlush } = CACHE_FLAGS[cell.cache];
  const cache = `cache.direct=${onOff(direct)},cache.no-flush=${onOff(noFlush)}`;
  const discard = axisValue(cell, 'discard');
  // Of the file node as QEMU and libvirt set it: what is let through is decided above it.
  return [
    `driver=${cell.format},node-name=disk0,discard=${discard},${cache}`,
    ...(l2CacheSize === undefined || cell.refcounts === null ? [] : [`l2-cache-size=${String(l2CacheSize)}`]),
    `file.driver=file,file.filename=${path.replaceAll(',', ',,')},file.discard=unmap`,
    `file.${cache.replace(',', ',file.')}`,
  ].join(',');
}

/** The value of QEMU's option for the device that the guest sees. */
export function deviceValue(cell: Cell): string {
  return `virtio-blk-pci,drive=disk0,write-cache=${onOff(CACHE_FLAGS[cell.cache].writeCache)}`;
}

function qemuLine(cell: Cell, disk: PastedDisk): string {
  return [`-blockdev ${shellWord(blockdevValue(cell, disk))}`, `-device ${deviceValue(cell)}`].join('\n');
}

/** The element that `virsh attach-device` takes, and that is in a domain's `<devices>`. */
export function libvirtXml(
  cell: Cell,
  { absolutePath, l2CacheSize }: Pick<PastedDisk, 'absolutePath' | 'l2CacheSize'>,
): string {
  const driver = `<driver name='qemu' type='${cell.format}' cache='${cell.cache}' discard='${axisValue(cell, 'discard')}'`;
  return [
    "<disk type='file' device='disk'>",
    ...(l2CacheSize === undefined || cell.refcounts === null
      ? [`  ${driver}/>`]
      : [
          `  ${driver}>`,
          '    <metadata_cache>',
          `      <max_size unit='bytes'>${String(bothCaches(l2CacheSize, cell))}</max_size>`,
          '    </metadata_cache>',
          '  </driver>',
        ]),
    `  <source file='${escapedXml(absolutePath)}'/>`,
    "  <target dev='vda' bus='virtio'/>",
    '</disk>',
  ].join('\n');
}

/** Refcount blocks that QEMU caches at least. */
const REFCOUNT_BLOCKS = 4;

/** libvirt's size becomes QEMU's `cache-size`, of which the refcount cache takes its least first. */
function bothCaches(l2CacheSize: number, { clusterSize }: Cell): number {
  return l2CacheSize + REFCOUNT_BLOCKS * (clusterSize ?? 0);
}

/** Proxmox VE creates images itself, with what its storage has of the options. */
function proxmoxLines(cell: Cell, { virtualSize, l2CacheSize }: PastedDisk): string {
  const gib = String(Math.ceil(virtualSize / GIB));
  const discard = axisValue(cell, 'discard') === 'unmap' ? 'on' : 'ignore';
  const lacksAtCreation = [
    ...(cell.refcounts === 'lazy' ? ['lazy refcounts'] : []),
    ...(cell.clusterSize === null || cell.clusterSize === 65_536 ? [] : ['the cluster size']),
    ...(axisValue(cell, 'extended-l2') === 'on' ? ['extended L2'] : []),
  ];
  return [
    `pvesm set STORAGE --preallocation ${axisValue(cell, 'preallocation')}   # of all images that it creates from now on`,
    `qm set VMID --virtio0 STORAGE:${gib},format=${cell.format},cache=${cell.cache},discard=${discard}`,
    ...(lacksAtCreation.length === 0
      ? []
      : [
          `# Proxmox VE does not set ${lacksAtCreation.join(', ')}: before the first start, run the qemu-img line on the file that pvesm path VOLUME prints`,
        ]),
    ...(l2CacheSize === undefined || cell.refcounts === null
      ? []
      : ['# Proxmox VE has no option for the size of the L2 cache: it stays at the default']),
    '# unlike the other lines, Proxmox VE looks for zeroes in what the guest writes; detect_zeroes=0 turns that off',
  ].join('\n');
}

function onOff(value: boolean): string {
  return value ? 'on' : 'off';
}

function escapedXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');
}
