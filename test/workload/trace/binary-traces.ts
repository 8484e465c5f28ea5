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
/** Beyond 32 bits, which version 8 has. */
const CATEGORY_ZONE_APPEND = 1n << 48n;
export type BlktraceCategory = keyof typeof CATEGORIES | 'zone-append';

export interface BlktraceEvent {
  readonly timeNs: number | bigint;
  readonly category: readonly BlktraceCategory[];
  readonly sector?: number | bigint;
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
  const head = version === 8 ? 64 : 48;
  const record = Buffer.alloc(head + pdu.length);
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  const little = event.bigEndian !== true;
  const code = category.reduce(
    (bits, name) => bits | (name === 'zone-append' ? CATEGORY_ZONE_APPEND : BigInt(CATEGORIES[name] >>> 0)),
    BigInt(action),
  );
  view.setUint32(0, 0x65617400 | version, little);
  view.setUint32(4, sequence, little);
  view.setBigUint64(8, BigInt(event.timeNs), little);
  view.setBigUint64(16, BigInt(sector), little);
  view.setUint32(24, bytes, little);
  if (version === 8) {
    view.setUint32(28, 100, little);
    view.setBigUint64(32, code, little);
  } else {
    view.setUint32(28, Number(code), little);
    view.setUint32(32, 100, little);
  }
  const deviceAt = version === 8 ? 40 : 36;
  view.setUint32(deviceAt, (device[0] << 20) | device[1], little);
  view.setUint32(deviceAt + 4, cpu, little);
  view.setUint16(deviceAt + 10, pdu.length, little);
  record.set(pdu, head);
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

/** What nbd-server logs: a reply has neither place nor data. */
export interface NbdLogEntry {
  readonly magic: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset?: bigint;
  readonly length?: number;
  /** Bytes of data behind it. */
  readonly data?: number;
}

export function nbdServerLog(entries: readonly NbdLogEntry[]): Buffer {
  return Buffer.concat(
    entries.map(({ magic, type, cookie, offset, length, data = 0 }) => {
      const bytes = Buffer.alloc((offset === undefined ? 16 : 28) + data);
      bytes.writeUInt32BE(magic, 0);
      bytes.writeUInt32BE(type, 4);
      bytes.writeBigUInt64BE(cookie, 8);
      if (offset !== undefined) bytes.writeBigUInt64BE(offset, 16);
      if (length !== undefined) bytes.writeUInt32BE(length, 24);
      return bytes;
    }),
  );
}

/** A record of QEMU's simple trace backend. */
export type SimpletraceRecord =
  | { readonly id: bigint; readonly name: string }
  | { readonly id: bigint; readonly timeNs: bigint; readonly arguments: readonly bigint[] };

/** What the simple backend writes, version 4, as `scripts/simpletrace.py` of QEMU reads it. */
export function simpletrace(
  records: readonly SimpletraceRecord[],
  { bigEndian = false, version = 4n }: { readonly bigEndian?: boolean; readonly version?: bigint } = {},
): Buffer {
  const u64 = (value: bigint): Buffer => {
    const bytes = Buffer.alloc(8);
    if (bigEndian) bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
    else bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
    return bytes;
  };
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    if (bigEndian) bytes.writeUInt32BE(value);
    else bytes.writeUInt32LE(value);
    return bytes;
  };
  const parts = records.flatMap((record) => {
    if ('name' in record) return [u64(0n), u64(record.id), u32(record.name.length), Buffer.from(record.name)];
    const length = 24 + 8 * record.arguments.length;
    const head = [u64(1n), u64(record.id), u64(record.timeNs), u32(length), u32(697)];
    return [...head, ...record.arguments.map((value) => u64(value))];
  });
  return Buffer.concat([u64(-1n), u64(0xf2b177cb0aa429b4n), u64(version), ...parts]);
}
