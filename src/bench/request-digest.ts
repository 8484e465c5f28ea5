/**
 * What the guest of a cell asks for, as a digest: shows that a workload was changed, also where it
 * asks as often.
 *
 * Invariant: it does not depend on how the stream was cut into batches.
 */

import { createHash } from 'node:crypto';

import { openStream, type WorkloadSource } from '../workload/library.ts';
import { REQUEST_OPS, type Request } from '../workload/request.ts';

/** Bytes of a request in the digest: kind, flags, offset, length. */
const REQUEST_BYTES = 18;
const DIGEST_CHARACTERS = 32;

export class RequestDigest {
  readonly #hash = createHash('sha256');

  constructor(source: WorkloadSource) {
    this.#hash.update(JSON.stringify(imageOf(source)));
  }

  /** Adds requests, in the order of the stream. */
  add(batch: readonly Request[]): void {
    const bytes = Buffer.alloc(batch.length * REQUEST_BYTES);
    let at = 0;
    for (const { op, fua, unmap, offset, length } of batch) {
      bytes.writeUInt8(REQUEST_OPS.indexOf(op), at);
      bytes.writeUInt8(Number(fua) + 2 * Number(unmap), at + 1);
      bytes.writeDoubleLE(offset, at + 2);
      bytes.writeDoubleLE(length, at + 10);
      at += REQUEST_BYTES;
    }
    this.#hash.update(bytes);
  }

  /** Of all requests so far. */
  get text(): string {
    return this.#hash.copy().digest('hex').slice(0, DIGEST_CHARACTERS);
  }
}

/** The digest of a source's requests, as a counting pass of them has it. */
export async function requestDigestOf(
  source: WorkloadSource,
  options: { readonly limit?: number | undefined; readonly seed?: number | undefined },
): Promise<string> {
  const digest = new RequestDigest(source);
  await using stream = await openStream(source, options);
  for await (const batch of stream.batches) digest.add(batch);
  return digest.text;
}

/** Digests of sources, each read once. */
export class SourceDigests {
  readonly #limit: number | undefined;
  readonly #known = new Map<WorkloadSource, Map<number | undefined, Promise<string>>>();

  /** @param limit requests of each source, at most */
  constructor(limit: number | undefined) {
    this.#limit = limit;
  }

  of(source: WorkloadSource, seed: number | undefined): Promise<string> {
    const bySeed = this.#known.get(source) ?? new Map<number | undefined, Promise<string>>();
    this.#known.set(source, bySeed);
    const digest = bySeed.get(seed) ?? requestDigestOf(source, { limit: this.#limit, seed });
    bySeed.set(seed, digest);
    return digest;
  }
}

/** What the workload says of the image before the first request; where files are does not count. */
function imageOf(source: WorkloadSource): unknown {
  if (source.kind === 'workload') return source.workload.image;
  return { size: source.virtualSize, fill: source.fill !== undefined };
}
