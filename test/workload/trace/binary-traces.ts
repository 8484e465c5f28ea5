/** Binary traces built field by field from their published layouts, for tests. */

const CATEGORIES = {
  read: 1 << 16,
  write: 1 << 17,
  flush: 1 << 18,
  sync: 1 << 19,
  queue: 1 << 20,
  'pass-through': 1 << 25,
  notify: 1 << 26,
  ahead: 1 << 27,
  meta: 1 << 28,
  discard: 1 << 29,
  fua: 1 << 31,
  /** A flag below the categories: the pdu begins with a cgroup. */
  cgroup: 1 << 8,
} as const;
export type BlktraceCategory = keyof typeof CATEGORIES;

export interface BlktraceEvent {
  readonly timeNs: number | bigint;
  readonly category: readonly BlktraceCategory[];
  readonly sector?: number;
  readonly bytes?: number;
  /** Default: 1, queued. */
  readonly action?: number;
  readonly cpu?: number;
  readonly sequence?: number;
  readonly device?: readonly [major: number, minor: number];
  readonly pdu?: Uint8Array;
  readonly bigEndian?: boolean;
  readonly version?: number;
}

export function blktraceEvent(event: BlktraceEvent): Buffer {
  const { category, sector = 0, bytes = 0, action = 1, cpu = 0, sequence = 1, device = [8, 0] } = event;
  const { pdu = new Uint8Array(0), version = 7 } = event;
  const record = Buffer.alloc(48 + pdu.length);
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  const little = event.bigEndian !== true;
  view.setUint32(0, 0x65617400 | version, little);
  view.setUint32(4, sequence, little);
  view.setBigUint64(8, BigInt(event.timeNs), little);
  view.setBigUint64(16, BigInt(sector), little);
  view.setUint32(24, bytes, little);
  view.setInt32(
    28,
    category.reduce((bits, name) => bits | CATEGORIES[name], action),
    little,
  );
  view.setUint32(32, 100, little);
  view.setUint32(36, (device[0] << 20) | device[1], little);
  view.setUint32(40, cpu, little);
  view.setUint16(46, pdu.length, little);
  record.set(pdu, 48);
  return record;
}

export interface VscsiRecord {
  readonly command: number;
  readonly length: number;
  readonly block: number;
  readonly timeUs: number;
}

export function vscsiRecord(version: 1 | 2, { command, length, block, timeUs }: VscsiRecord): Buffer {
  const record = Buffer.alloc(version === 1 ? 32 : 40);
  const versionField = (version << 8) | 4;
  if (version === 1) {
    record.writeUInt32LE(77, 0);
    record.writeUInt32LE(length, 4);
    record.writeUInt32LE(1, 8);
    record.writeUInt16LE(command, 12);
    record.writeUInt16LE(versionField, 14);
  } else {
    record.writeUInt16LE(command, 0);
    record.writeUInt16LE(versionField, 2);
    record.writeUInt32LE(77, 4);
    record.writeUInt32LE(length, 8);
    record.writeUInt32LE(1, 12);
  }
  record.writeBigUInt64LE(BigInt(block), 16);
  record.writeBigUInt64LE(BigInt(timeUs), 24);
  return record;
}

/** Data that is really there of an entry that claims more. */
const DATA_MAX = 64 * 1024 * 1024;

export type DmLogEntry =
  { readonly sector: number; readonly sectors: number; readonly flags: number } | { readonly mark: string };

/** A log as the kernel lays it out, its data all `0x5a`. */
export function dmLog(
  { sectorSize, entries }: { readonly sectorSize: number; readonly entries?: number },
  list: readonly DmLogEntry[],
): Buffer {
  const head = Buffer.alloc(sectorSize);
  head.writeBigUInt64LE(0x006a736677736872n, 0);
  head.writeBigUInt64LE(1n, 8);
  head.writeBigUInt64LE(BigInt(entries ?? list.length), 16);
  head.writeUInt32LE(sectorSize, 24);
  const parts = list.map((entry) => {
    const sector = Buffer.alloc(sectorSize);
    if ('mark' in entry) {
      sector.writeBigUInt64LE(8n, 16);
      sector.writeBigUInt64LE(BigInt(entry.mark.length), 24);
      sector.write(entry.mark, 32);
      return sector;
    }
    sector.writeBigUInt64LE(BigInt(entry.sector), 0);
    sector.writeBigUInt64LE(BigInt(entry.sectors), 8);
    sector.writeBigUInt64LE(BigInt(entry.flags), 16);
    const isDiscard = (entry.flags & 4) !== 0;
    return Buffer.concat([
      sector,
      Buffer.alloc(isDiscard ? 0 : Math.min(entry.sectors * sectorSize, DATA_MAX), 0x5a),
    ]);
  });
  return Buffer.concat([head, ...parts]);
}
