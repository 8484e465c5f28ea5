/**
 * A closer look at the cells that an answer quotes: their first requests are served again in memory, for
 * the places of their host operations in the image, and on every device model, for its exact virtual
 * time. Counts are deterministic, so this is what the result's own run did. Cells that are repaired after
 * a crash are also left without a close, and opened again.
 *
 * Invariant: nothing is shown that is not of the cell. A cell that cannot be run again here, such as
 * one of a trace or an image of the user, or that costs something else now, is left out.
 */

import { BuiltinEngine } from '../../bench/builtin-engine.ts';
import type { CellPlan } from '../../bench/engine.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { PLAIN_FORMAT } from '../../core/format-name.ts';
import { modelDevice } from '../../device/device-model.ts';
import { DEVICE_MODELS } from '../../device/device-models.ts';
import type { HostLogRecord } from '../../device/host-log.ts';
import { lazyPrice, repairGrowth, type LazyPrice, type RepairGrowth } from '../../crash/price.ts';
import { FORMAT_FACTS } from '../../format/formats.ts';
import { quotedCells } from '../../report/answer.ts';
import type { CloserLook, HostOperation } from '../../report/closer-look.ts';
import type { RepairPrice } from '../../report/repair-price.ts';
import { cellKey } from '../../result/cell.ts';
import { costSequence } from '../../result/request-costs.ts';
import type { CellRecord, ResultRecord } from '../../result/schema.ts';
import { findSource, shippedNames } from '../../workload/library.ts';
import { PROCESS_CLOCK } from './clock.ts';

/** Requests that are served again. */
const REQUESTS = 300;
/** Cells that are looked at; an answer quotes fewer. */
const CELLS_MAX = 8;
/** Operations of a cell that a page holds. */
const OPERATIONS_MAX = 4000;

/** Cells whose repair after a crash is priced. */
const PRICED_MAX = 4;

/** Both by `cellKey`; empty of a result of which no cell can be run again. */
export interface CloserLooks {
  readonly looks: ReadonlyMap<string, CloserLook>;
  readonly repairs: ReadonlyMap<string, RepairPrice>;
}

export async function closerLook(result: ResultRecord): Promise<CloserLooks> {
  return { looks: await looksAt(result), repairs: await repairPrices(result) };
}

async function looksAt(result: ResultRecord): Promise<ReadonlyMap<string, CloserLook>> {
  const quoted = quotedCells(result.cells);
  const names = new Set(shippedNames());
  const cells = result.cells.filter(
    (record) => quoted.has(cellKey(record.cell)) && isRepeatable(record, names),
  );
  const models = new Map(DEVICE_MODELS.map((model) => [model.name, model]));
  const engine = new BuiltinEngine({ models });
  const looks = new Map<string, CloserLook>();
  for (const record of cells.slice(0, CELLS_MAX)) {
    const look = await ifPossible(() => lookAt(record, engine, result.environment.seed));
    if (look !== undefined) looks.set(cellKey(record.cell), look);
  }
  return looks;
}

/** Made from a shipped workload as it is. */
function isRepeatable({ cell, requests, counts }: CellRecord, shipped: ReadonlySet<string>): boolean {
  const changes = [
    cell.image,
    cell.flushPolicy,
    cell.remap,
    cell.fill,
    cell.maxTransfer,
    cell.overlap,
    cell.payload,
  ];
  return (
    cell.engine === 'builtin' &&
    shipped.has(cell.workload) &&
    requests !== undefined &&
    counts !== null &&
    changes.every((change) => change === undefined)
  );
}

/** What repairs after a crash cost, and save until then: of quoted cells, then one of each workload. */
export async function repairPrices(result: ResultRecord): Promise<ReadonlyMap<string, RepairPrice>> {
  const quoted = quotedCells(result.cells);
  const names = new Set(shippedNames());
  const pairs = repairPairs(result.cells.filter((record) => isRepeatable(record, names)));
  const isQuoted = ([, { cell }]: RepairPair): boolean => quoted.has(cellKey(cell));
  const known = new Set<string>();
  const others = pairs.filter(([, { cell }]) => {
    const isNew = !known.has(cell.workload);
    known.add(cell.workload);
    return isNew;
  });
  const chosen = [...new Set([...pairs.filter(isQuoted), ...others])].slice(0, PRICED_MAX);
  const growths = new Map<string, RepairGrowth | undefined>();
  const prices = new Map<string, RepairPrice>();
  for (const [eager, repaired] of chosen) {
    const plans = [
      await planOf(eager, result.environment.seed),
      await planOf(repaired, result.environment.seed),
    ] as const;
    const price = await ifPossible(() => lazyPrice(plans, REQUESTS));
    if (price === undefined) continue;
    const { format, clusterSize, shape } = repaired.cell;
    const key = JSON.stringify([format, clusterSize, shape]);
    if (!growths.has(key)) growths.set(key, await repairGrowth(plans[1]));
    prices.set(cellKey(repaired.cell), repairPrice(price, cellKey(eager.cell), growths.get(key)));
  }
  return prices;
}

type RepairPair = readonly [eager: CellRecord, repaired: CellRecord];

/** Cells that are repaired after a crash, each with the eager cell that differs in nothing else. */
function repairPairs(records: readonly CellRecord[]): readonly RepairPair[] {
  const placeOf = ({ cell }: CellRecord): string =>
    cellKey({ ...cell, format: PLAIN_FORMAT, refcounts: null });
  const eager = new Map(
    records.filter(({ cell }) => cell.refcounts === 'eager').map((record) => [placeOf(record), record]),
  );
  return records.flatMap((record) => {
    const { refcounts, format, cache } = record.cell;
    const { isInUse, refcountModes } = FORMAT_FACTS[format];
    const isRepaired = refcounts === 'lazy' || (isInUse !== undefined && refcountModes.length === 0);
    const other = eager.get(placeOf(record));
    return isRepaired && other !== undefined && cache !== 'unsafe' ? [[other, record]] : [];
  });
}

function repairPrice(price: LazyPrice, eager: string, growth: RepairGrowth | undefined): RepairPrice {
  const { guestWrites, savedSyncs, opening, onDevices } = price;
  const perByte = (value: number | undefined): number | undefined =>
    growth === undefined || value === undefined ? undefined : value / growth.bytes;
  return {
    eager,
    guestWrites,
    savedSyncs,
    ...opening,
    readBytesPerByte: perByte(growth?.readBytes),
    onDevices: onDevices.map(({ device, savedNs, openingNs }) => ({
      device,
      savedNs,
      repairNs: openingNs,
      nsPerByte: perByte(growth?.onDevices.get(device)),
    })),
  };
}

/** Nothing of a cell that cannot be made here: a result may be of another version, or not of a run. */
async function ifPossible<T>(run: () => Promise<T>): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof Qcow2BenchError) return undefined;
    throw error;
  }
}

async function planOf({ cell }: CellRecord, seed: number): Promise<CellPlan> {
  const source = await findSource(cell.workload);
  return { cell, source, seed: seed === 0 ? undefined : seed, payload: 'pattern' };
}

async function lookAt(
  record: CellRecord,
  engine: BuiltinEngine,
  seed: number,
): Promise<CloserLook | undefined> {
  const { requests, cell } = record;
  if (requests === undefined) return undefined;
  const plan = await planOf(record, seed);
  if (engine.unsupportedReason(plan, 'count') !== undefined) return undefined;
  const operations: HostOperation[] = [];
  const outcome = await engine.count(plan, {
    limit: REQUESTS,
    hostLog: (operation) => {
      if (operation.phase !== 'open' && operations.length < OPERATIONS_MAX) {
        operations.push(placed(operation));
      }
    },
  });
  const [then, now] = [requests, outcome.requests].map((costs) =>
    costs === undefined ? [] : costSequence(costs),
  );
  const most = Math.min(then?.length ?? 0, now?.length ?? 0);
  if (most === 0 || now?.slice(0, most).some((cost, index) => cost !== then?.[index]) === true) {
    return undefined;
  }
  const modelled: [string, number][] = [];
  for (const { name } of DEVICE_MODELS) {
    const ns = await modelledNs({ ...plan, cell: { ...cell, device: modelDevice(name) } }, engine);
    if (ns !== undefined) modelled.push([name, ns]);
  }
  return { operations, modelled: new Map(modelled) };
}

/** Nanoseconds of virtual time per request. */
async function modelledNs(plan: CellPlan, engine: BuiltinEngine): Promise<number | undefined> {
  if (engine.unsupportedReason(plan, 'time') !== undefined) return undefined;
  await using pass = await engine.prepareTimed(plan, { limit: REQUESTS, clock: PROCESS_CLOCK });
  await pass.open();
  const beganNs = pass.clock.nowNs();
  await pass.run();
  const tookNs = Number(pass.clock.nowNs() - beganNs);
  await pass.close();
  return pass.requests === 0 ? undefined : tookNs / pass.requests;
}

function placed(record: HostLogRecord): HostOperation {
  const request = record.request ?? -1;
  if (record.op === 'sync') return [request, record.file, record.op, record.cause, 0, 0];
  return [request, record.file, record.op, record.purpose, record.offset, record.length];
}
