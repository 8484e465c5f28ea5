/**
 * An engine of your own against ours: the same requests, both counted, side by side.
 *
 *   node examples/own-engine.ts
 *
 * The engine here is a sketch of a format that appends clusters and keeps its map in a journal: one
 * record of 512 bytes a new cluster, durable with the data that it maps. It counts and serves no
 * bytes.
 *
 * In your own program, import from 'qcow2-bench'.
 */

import {
  BuiltinEngine,
  deriveFigures,
  findSource,
  HostMeter,
  openStream,
  planMatrix,
  type CellPlan,
  type CountOutcome,
  type Request,
} from '../src/index.ts';

const CLUSTER = 65_536;
const RECORD = 512;

class JournalEngine {
  /** Serves all requests of the plan as one writethrough disk would, and counts what that takes. */
  async count(plan: CellPlan): Promise<CountOutcome['counts']> {
    const meter = new HostMeter();
    const mapped = new Set<number>();
    const guest = {
      reads: 0,
      writes: 0,
      flushes: 0,
      discards: 0,
      writeZeroes: 0,
      writeBytes: 0,
      allocatingWrites: 0,
    };
    meter.enterPhase('run');
    await using stream = await openStream(plan.source);
    for await (const batch of stream.batches) {
      for (const request of batch) {
        if (request.op !== 'write') continue;
        guest.writes++;
        guest.writeBytes += request.length;
        if (this.#write(request, meter, mapped)) guest.allocatingWrites++;
      }
    }
    return { guest, open: meter.counts('open'), run: meter.counts('run'), close: meter.counts('close') };
  }

  /** Whether the write allocated. */
  #write({ offset, length }: Request, meter: HostMeter, mapped: Set<number>): boolean {
    const before = mapped.size;
    for (let at = Math.floor(offset / CLUSTER); at * CLUSTER < offset + length; at++) mapped.add(at);
    const records = mapped.size - before;
    meter.count('write', 'data', length);
    if (records > 0) meter.count('write', 'l2-table', records * RECORD);
    meter.countSync('writethrough');
    return records > 0;
  }
}

const plans = planMatrix({
  sources: [await findSource('stride')],
  formats: ['qcow2', 'qed'],
  refcounts: ['eager', 'lazy'],
  caches: ['writethrough'],
  clusterSizes: [CLUSTER],
  queueDepths: [1],
  engines: ['builtin'],
  devices: ['memory'],
});
const ours = new BuiltinEngine();
for (const plan of plans) {
  const { counts } = await ours.count(plan, {});
  print([plan.cell.format, plan.cell.refcounts].filter((part) => part !== null).join(' '), counts);
}
const [plan] = plans;
if (plan !== undefined) print('journal', await new JournalEngine().count(plan));

function print(name: string, counts: CountOutcome['counts']): void {
  const { syncsPerWrite, metadataBytesPerWrite } = deriveFigures(counts);
  const metadata = (metadataBytesPerWrite ?? 0).toFixed(0);
  console.log(`${name}: ${(syncsPerWrite ?? 0).toFixed(2)} syncs, ${metadata} bytes of metadata a write`);
}
