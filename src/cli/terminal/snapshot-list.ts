/** Internal snapshots as `qemu-img snapshot -l` and `qemu-img info` print them. */

import { humanSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import type { SnapshotInfo } from '../../format/disk-image.ts';

const NS_PER_S = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;

/** The table with its heading; dates in the local time zone. */
export function snapshotTable(snapshots: readonly SnapshotInfo[]): string {
  return [
    'Snapshot list:',
    row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map((snapshot) =>
      row(
        visibleText(snapshot.id),
        visibleText(snapshot.name),
        humanSize(snapshot.vmStateSize),
        dateText(snapshot.seconds),
        clockText(snapshot.vmClockNs),
        snapshot.icount === undefined ? '' : String(snapshot.icount),
      ),
    ),
  ].join('\n');
}

/** A snapshot with the names that it has in `qemu-img info --output=json`. */
export function snapshotJson(snapshot: SnapshotInfo): Record<string, unknown> {
  return {
    ...(snapshot.icount === undefined ? {} : { icount: Number(snapshot.icount) }),
    'vm-clock-nsec': Number(snapshot.vmClockNs % NS_PER_S),
    name: snapshot.name,
    'date-sec': snapshot.seconds,
    'date-nsec': snapshot.nanoseconds,
    'vm-clock-sec': Number(snapshot.vmClockNs / NS_PER_S),
    id: snapshot.id,
    'vm-state-size': snapshot.vmStateSize,
  };
}

function row(id: string, tag: string, size: string, date: string, clock: string, icount: string): string {
  return `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)}${date.padStart(20)}${clock.padStart(13)}${icount.padStart(11)}`;
}

function dateText(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()];
  return `${day.map(twoDigits).join('-')} ${time.map(twoDigits).join(':')}`;
}

function clockText(nanoseconds: bigint): string {
  const seconds = nanoseconds / NS_PER_S;
  const parts = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n].map(Number);
  const milliseconds = String((nanoseconds % NS_PER_S) / NS_PER_MS).padStart(3, '0');
  return `${parts.map(twoDigits).join(':')}.${milliseconds}`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
