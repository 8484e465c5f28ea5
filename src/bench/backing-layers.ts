/**
 * The files behind the image of a cell: how many, in which formats, with which of the workload's
 * own data. prepare.ts makes them.
 *
 * Invariant: a chain that the workload describes itself is used as it is; any other has the cell's
 * depth, with the data in its last file.
 */

import type { Format } from '../format/disk-image.ts';
import { FORMAT_FACTS, formatsWith, namesBackingFormat, titleList } from '../format/formats.ts';
import type { WorkloadSource } from '../workload/library.ts';
import { backingLayers, type BackingLayer } from '../workload/schema.ts';
import type { CellPlan } from './engine.ts';

/** A file that is made for a cell. */
export interface NamedFile {
  /** Within the storage. */
  readonly name: string;
  readonly format: Format;
}

/** What decides on the files behind an image. */
export type ChainPlan = Pick<CellPlan, 'cell' | 'source' | 'userImage'>;

/**
 * The files behind the image of a cell, the nearest first.
 *
 * @param nearest the name of the nearest; the others have it with their number
 */
export function backingChain(plan: ChainPlan, nearest: string): readonly NamedFile[] {
  return backingFormats(plan).map((format, index) => ({
    name: index === 0 ? nearest : `${nearest}.${String(index + 1)}`,
    format,
  }));
}

/**
 * The formats of the files behind an image, the nearest first: those of the workload's own chain,
 * or else the cell's.
 */
export function backingFormats({ cell, source, userImage }: ChainPlan): readonly Format[] {
  const { format, backing, backingDepth = 1 } = cell;
  if (FORMAT_FACTS[format].backing === 'none' || backing === undefined) return [];
  const own = userImage === undefined ? backingLayersOf(source) : [];
  if (own.length > 1 && own.length === backingDepth) return own.map((layer) => layer.format);
  // Such as raw: it is over no other file.
  const between = FORMAT_FACTS[backing].backing === 'none' ? format : backing;
  return Array.from({ length: backingDepth }, (_, index) => (index === backingDepth - 1 ? backing : between));
}

/**
 * The format of the backing files that the images of the chain leave unnamed: a QED image stores no
 * format but raw.
 */
export function unnamedFormat(plan: ChainPlan): Format | undefined {
  return [...unnamedFormats(plan)][0] ?? backingFormats(plan)[0];
}

function unnamedFormats(plan: ChainPlan): ReadonlySet<Format> {
  const behind = backingFormats(plan);
  const above = [plan.cell.format, ...behind];
  return new Set(
    behind.filter((format, index) => {
      const overlay = above[index];
      return overlay !== undefined && !namesBackingFormat(overlay, format);
    }),
  );
}

/** Why a cell cannot have its chain; `undefined` if it can. */
export function unsupportedChain(plan: ChainPlan): string | undefined {
  const { backing, backingDepth = 1 } = plan.cell;
  const own = backingLayersOf(plan.source).length;
  if (own > 1 && backing !== undefined && backingDepth !== own) {
    return `the workload has its own chain of ${String(own)} backing files, not of ${String(backingDepth)}`;
  }
  const unnamed = [...unnamedFormats(plan)];
  if (unnamed.length < 2) return undefined;
  const overlays = formatsWith((facts) => facts.backing === 'plain');
  return `${titleList(overlays)} images do not store the format of a backing file, and this chain needs two: ${unnamed.join(', ')}`;
}

/** The files behind the image of a source, as its workload describes them; a recording has none. */
export function backingLayersOf(source: WorkloadSource): readonly BackingLayer[] {
  return source.kind === 'workload' ? backingLayers(source.workload) : [];
}
