/** Operations with purposes and causes, as the builtin engine logs and counts its own. */

import { guestRequest } from '../bench/request-context.ts';
import type { HostLogSink } from '../device/host-log.ts';
import { HostMeter } from '../device/host-meter.ts';
import type { Request } from '../workload/request.ts';
import type { Classified } from './classify.ts';

/** With the request of each, as the builtin engine logs them. */
export function logOperations(
  { records, requests: numbers }: Classified,
  requests: readonly Request[],
  hostLog: HostLogSink,
): void {
  let described: number | undefined;
  for (const [index, record] of records.entries()) {
    const number = numbers[index];
    const request = number === undefined ? undefined : requests[number];
    if (number === undefined || request === undefined) hostLog(record);
    else if (number === described) hostLog({ ...record, request: number });
    else hostLog({ ...record, request: number, guest: guestRequest(request) });
    described = number;
  }
}

/** Counts of all phases. */
export function countedRecords({ records, elidedFlushes }: Classified): HostMeter {
  const meter = new HostMeter();
  for (const record of records) {
    if (record.phase !== meter.phase) meter.enterPhase(record.phase);
    if (record.op === 'sync') meter.countSync(record.cause);
    else if (record.parts !== undefined) meter.countParts(record.purpose, record.parts);
    else meter.count(record.op, record.purpose, record.length);
  }
  meter.enterPhase('run');
  for (let index = 0; index < elidedFlushes; index++) meter.countElided();
  return meter;
}
