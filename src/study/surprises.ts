/**
 * What a user would not expect of the counts of a workload, with the evidence.
 *
 * Invariant: a surprise is said only of what was counted.
 */

import { alignUp } from '../core/alignment.ts';
import { DEFAULT_FORMAT, PLAIN_FORMAT } from '../core/format-name.ts';
import { countOf, groupedText } from '../core/number-text.ts';
import { humanSize } from '../core/size.ts';
import { percentText, rateText } from '../report/numbers.ts';
import { costSequence } from '../result/request-costs.ts';
import type { Counts } from '../result/schema.ts';
import { figureIn, requiredFigure, rowsWhere, type StudyRow, type StudyTable, type Where } from './table.ts';

export interface Surprise {
  readonly about: string;
  readonly text: string;
}

/** The most that the L2 cache is by default. */
const DEFAULT_L2_CACHE_BYTES = 32 * 1024 * 1024;
const L2_ENTRY_BYTES = 8;
/** A share of the writes below which allocation hardly matters. */
const FEW = 0.05;

/** @param virtualSize bytes of the disk. */
export function surprisesOf(
  table: StudyTable,
  { cache, virtualSize }: { readonly cache: string; readonly virtualSize: number },
): readonly Surprise[] {
  const rows = rowsWhere(table.rows, { cache: [cache] });
  return [
    unflushed(rows, cache),
    unwrittenReads(rows),
    unallocated(rows),
    undonePreallocation(rows),
    smallCache(rows, virtualSize),
    avoidableSyncs(rows),
  ].filter((surprise) => surprise !== undefined);
}

const PLAIN: Where = { format: [DEFAULT_FORMAT], 'extended-l2': ['off'], 'cluster-size': ['64KiB'] };

function countsOf(row: StudyRow | undefined): Counts | undefined {
  return row?.records.find(({ counts }) => counts !== null)?.counts ?? undefined;
}

function unflushed(rows: readonly StudyRow[], cache: string): Surprise | undefined {
  const counts = countsOf(rows[0]);
  if (counts === undefined || counts.guest.flushes > 0 || counts.guest.writes === 0) return undefined;
  const syncs = rows.reduce((sum, row) => sum + (countsOf(row)?.run.syncs.byCause.fua ?? 0), 0);
  if (syncs > 0 || cache === 'writethrough' || cache === 'directsync') return undefined;
  const writes = countOf(counts.guest.writes, 'write');
  const isRecording = rows.some(({ records }) => records.some((record) => record.isRecording === true));
  const how = isRecording
    ? ' Recorders below the file system often drop flushes; replay --flush-policy adds some.'
    : '';
  return {
    about: 'No flush',
    text: `The guest flushed nothing in ${writes}: with cache=${cache} a crash may lose all of them.${how}`,
  };
}

/** Raw reads what was never written; a format that maps clusters knows that it is zero. */
function unwrittenReads(rows: readonly StudyRow[]): Surprise | undefined {
  const readBytes = (where: Where): number | undefined => {
    const counts = countsOf(rowsWhere(rows, where)[0]);
    return counts && (counts.run.reads.byPurpose.data?.bytes ?? 0);
  };
  const [raw, mapped] = [
    readBytes({ format: [PLAIN_FORMAT] }),
    readBytes({ ...PLAIN, preallocation: ['off'], refcounts: ['eager'] }),
  ];
  if (raw === undefined || mapped === undefined) return undefined;
  const unwritten = raw - mapped;
  if (unwritten <= raw * FEW) return undefined;
  const isRecording = rows.some(({ records }) => records.some((record) => record.isRecording === true));
  const how = isRecording
    ? ' If they were on the recorded disk, --fill-reads on writes them before the run.'
    : '';
  return {
    about: 'Unwritten reads',
    text: `Of ${humanSize(raw)} that the guest reads, ${humanSize(unwritten)} were not written before: raw reads them from its file, qcow2 and QED know that they are zero.${how}`,
  };
}

function unallocated(rows: readonly StudyRow[]): Surprise | undefined {
  const counts = countsOf(rowsWhere(rows, { ...PLAIN, preallocation: ['off'] })[0]);
  if (counts === undefined || counts.guest.writes === 0) return undefined;
  const share = counts.guest.allocatingWrites / counts.guest.writes;
  if (share > FEW) return undefined;
  return {
    about: 'Overwrites',
    text: `Only ${percentText(share)} of the writes allocate: refcounts, preallocation and cluster size hardly matter.`,
  };
}

/** A guest that discards its disk frees what was preallocated. */
function undonePreallocation(rows: readonly StudyRow[]): Surprise | undefined {
  const at = (preallocation: string): StudyRow | undefined =>
    rowsWhere(rows, { ...PLAIN, refcounts: ['eager'], preallocation: [preallocation] })[0];
  const [off, metadata, falloc] = [at('off'), at('metadata'), at('falloc')];
  const counts = countsOf(falloc);
  if (off === undefined || metadata === undefined || falloc === undefined) return undefined;
  if (counts === undefined || counts.guest.discards === 0) return undefined;
  const [start, end] = [
    figureIn(falloc, requiredFigure('allocatedStart')),
    figureIn(falloc, requiredFigure('allocatedEnd')),
  ];
  if (start === null || end === null || end > start / 2) return undefined;
  const syncs = requiredFigure('syncs');
  const [before, after] = [figureIn(off, syncs), figureIn(metadata, syncs)];
  return {
    about: 'Discards',
    text: `The guest discarded most of its disk (${countOf(counts.guest.discards, 'discard')}, as mkfs does): of ${humanSize(start)} preallocated, ${humanSize(end)} are left at the end. preallocation=metadata issues ${rateText(after)} syncs per write, no preallocation ${rateText(before)}. Without discard=unmap the preallocation stays.`,
  };
}

function smallCache(rows: readonly StudyRow[], virtualSize: number): Surprise | undefined {
  const row = rowsWhere(rows, { ...PLAIN, preallocation: ['off'] })[0];
  const clusterSize = row?.cell.clusterSize;
  if (row === undefined || clusterSize === null || clusterSize === undefined) return undefined;
  const tables = l2TableBytes(virtualSize, clusterSize);
  if (tables <= DEFAULT_L2_CACHE_BYTES) return undefined;
  const reads = figureIn(row, requiredFigure('metadataReads'));
  return {
    about: 'L2 cache',
    text: `The tables of the whole disk take ${humanSize(tables)}, the default L2 cache holds ${humanSize(DEFAULT_L2_CACHE_BYTES)}: ${rateText(reads)} reads of metadata per request here. l2-cache-size=${String(tables)} holds all, and so does a larger cluster with less.`,
  };
}

/** Bytes of an L2 cache for the whole disk; `undefined` if the default is enough. */
export function l2CacheFor({ cell }: StudyRow, virtualSize: number): number | undefined {
  const { clusterSize } = cell;
  if (clusterSize === null || cell.refcounts === null) return undefined;
  const entries = cell.shape?.extendedL2 === true ? 2 : 1;
  const tables = l2TableBytes(virtualSize, clusterSize, entries);
  return tables <= DEFAULT_L2_CACHE_BYTES ? undefined : tables;
}

/**
 * Bytes of all L2 tables of a disk, in whole clusters, as QEMU counts them: of a cache that is smaller
 * by a byte it would make slices of 4 KiB.
 */
function l2TableBytes(virtualSize: number, clusterSize: number, entryWords = 1): number {
  return alignUp(Math.ceil(virtualSize / clusterSize) * L2_ENTRY_BYTES * entryWords, clusterSize);
}

/** Where the L2 entry depends on a refcount, a sync comes first, also if no refcount changed. */
function avoidableSyncs(rows: readonly StudyRow[]): Surprise | undefined {
  const row = rowsWhere(rows, {
    format: [DEFAULT_FORMAT],
    refcounts: ['eager'],
    'extended-l2': ['on'],
    'cluster-size': ['64KiB'],
    preallocation: ['off'],
  })[0];
  const counts = countsOf(row);
  if (row === undefined || counts === undefined) return undefined;
  const syncs = counts.run.syncs.byCause['l2-after-refcount'] ?? 0;
  const changes = counts.run.writes.byPurpose['refcount-block']?.ops ?? 0;
  const avoidable = syncs - changes;
  if (avoidable <= 0) return undefined;
  const example = exampleOf(row);
  return {
    about: 'Extended L2',
    text:
      `With eager refcounts and extended L2, ${groupedText(avoidable)} of ${groupedText(syncs)} syncs before L2 entries follow no write of refcounts: ` +
      `a new subcluster of an allocated cluster changes none (an avoidable sync, in QEMU too).` +
      (example === undefined ? '' : ` Request ${groupedText(example.request)}: ${example.cost}.`) +
      ' Lazy refcounts have none of these.',
  };
}

/** The first request with such a sync and without a write of refcounts; counted from 0. */
function exampleOf({ records }: StudyRow): { readonly request: number; readonly cost: string } | undefined {
  const requests = records.find((record) => record.requests !== undefined)?.requests;
  if (requests === undefined) return undefined;
  const costs = costSequence(requests);
  const request = costs.findIndex(
    (cost) => cost.includes('sync l2-after-refcount') && !cost.includes('refcount-block'),
  );
  const cost = costs[request];
  return cost === undefined ? undefined : { request, cost };
}
