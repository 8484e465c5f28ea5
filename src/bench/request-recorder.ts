/**
 * Records of a counting pass what its guest asked for, as a digest, and what each request cost
 * (`result/request-costs`).
 *
 * Invariant: a request's cost grows with each host operation that is issued on its behalf, also
 * where several are in flight. Costs are the nodes of a tree whose edges are operations, so a
 * request takes one number, however many operations it has.
 */

import { createHash } from 'node:crypto';

import type { HostLogRecord } from '../device/host-log.ts';
import {
  COST_LENGTH_MAX,
  COSTS_MAX,
  encodeSequence,
  REQUESTS_MAX,
  type RequestCosts,
} from '../result/request-costs.ts';
import { METADATA_PURPOSES, type Purpose } from '../result/vocabulary.ts';
import type { WorkloadSource } from '../workload/library.ts';
import type { Request } from '../workload/request.ts';
import { RequestDigest } from './request-digest.ts';

/** Nodes of the tree: what is beyond belongs to requests that are not kept. */
const NODES_MAX = 262_144;

interface CostNode {
  readonly parent: CostNode | undefined;
  readonly operation: string;
  readonly next: Map<string, CostNode>;
}

export class RequestRecorder {
  readonly #digest: RequestDigest;
  readonly #root: CostNode = { parent: undefined, operation: '', next: new Map() };
  readonly #ends: CostNode[] = [];
  #nodes = 0;
  /** Requests whose costs are complete. */
  #kept = REQUESTS_MAX;
  #requests = 0;

  constructor(source: WorkloadSource) {
    this.#digest = new RequestDigest(source);
  }

  /** Adds requests, in the order of the stream. */
  add(batch: readonly Request[]): void {
    this.#digest.add(batch);
    this.#requests += batch.length;
  }

  /** The same batches, each added when it is taken. */
  async *watch(batches: AsyncIterable<readonly Request[]>): AsyncGenerator<readonly Request[], undefined> {
    for await (const batch of batches) {
      this.add(batch);
      yield batch;
    }
    return undefined;
  }

  /** A host operation; one of no request, at open and close, belongs to none. */
  readonly sink = (record: HostLogRecord): void => {
    const { request } = record;
    if (request === undefined || request >= this.#kept) return;
    const operation = operationText(record);
    const end = this.#ends[request] ?? this.#root;
    let next = end.next.get(operation);
    if (next === undefined) {
      if (this.#nodes === NODES_MAX) {
        this.#kept = request;
        return;
      }
      next = { parent: end, operation, next: new Map() };
      end.next.set(operation, next);
      this.#nodes++;
    }
    this.#ends[request] = next;
  };

  costs(): RequestCosts {
    const indices: number[] = [];
    const indexOf = new Map<string, number>();
    const ofNode = new Map<CostNode, string>();
    const requests = Math.min(this.#requests, this.#kept);
    for (let request = 0; request < requests; request++) {
      const node = this.#ends[request] ?? this.#root;
      const text = ofNode.get(node) ?? costText(node);
      ofNode.set(node, text);
      const index = indexOf.get(text) ?? indexOf.size;
      if (index === COSTS_MAX) break;
      indexOf.set(text, index);
      indices.push(index);
    }
    return {
      digest: this.#digest.text,
      costs: [...indexOf.keys()],
      sequence: encodeSequence(indices),
    };
  }
}

function operationText(record: HostLogRecord): string {
  if (record.op === 'sync') return `sync ${record.cause}`;
  const { op, purpose, length, parts } = record;
  if (parts === undefined) return `${op} ${partText(purpose, length)}`;
  return `${op} ${parts.map(([part, bytes]) => partText(part, bytes)).join('+')}`;
}

/** Data is as long as the request: only the bytes of metadata are the engine's choice. */
function partText(purpose: Purpose, bytes: number): string {
  return METADATA_PURPOSES.includes(purpose) ? `${purpose} ${String(bytes)} B` : purpose;
}

/** `write data, write l2-table 4096 B × 3, sync writethrough`. */
function costText(end: CostNode): string {
  const operations: string[] = [];
  for (let node = end; node.parent !== undefined; node = node.parent) operations.push(node.operation);
  const runs: { operation: string; count: number }[] = [];
  for (const operation of operations.reverse()) {
    const last = runs.at(-1);
    if (last?.operation === operation) last.count++;
    else runs.push({ operation, count: 1 });
  }
  const text = runs
    .map(({ operation, count }) => (count === 1 ? operation : `${operation} × ${String(count)}`))
    .join(', ');
  if (text.length <= COST_LENGTH_MAX) return text;
  // Different costs keep different texts.
  const mark = `, … (${String(operations.length)} operations, ${createHash('sha256').update(text).digest('hex').slice(0, 8)})`;
  return text.slice(0, COST_LENGTH_MAX - mark.length) + mark;
}
