/**
 * Serves guest requests with our engine as `qemu-io` serves the same list: one after the other, and
 * all bytes of the n-th write are those that `src/peer/qemu-io.ts` gives it.
 */

import type { BlockBackend } from '../../src/format/block-backend.ts';
import type { Request } from '../../src/workload/request.ts';

/** @param write counting writes only, from 0. */
export function payloadByte(write: number): number {
  return (write % 255) + 1;
}

/**
 * What reads answer is dropped.
 *
 * @param begin called with each request's number before it is served, and `undefined` behind the
 *   last.
 */
export async function serveRequests(
  backend: BlockBackend,
  requests: readonly Request[],
  begin?: (request: number | undefined) => void,
): Promise<void> {
  let writes = 0;
  for (const [index, request] of requests.entries()) {
    begin?.(index);
    await serveRequest(backend, request, payloadByte(writes));
    if (request.op === 'write') writes++;
  }
  begin?.(undefined);
}

/** @param value what all bytes of a write are. */
export async function serveRequest(backend: BlockBackend, request: Request, value: number): Promise<void> {
  const { op, offset, length } = request;
  switch (op) {
    case 'read':
      await backend.read(offset, new Uint8Array(length));
      return;
    case 'write':
      await backend.write(offset, new Uint8Array(length).fill(value), request);
      return;
    case 'flush':
      await backend.flush();
      return;
    case 'discard':
      await backend.discard(offset, length);
      return;
    case 'write-zeroes':
      await backend.writeZeroes(offset, length, request);
      return;
  }
}
