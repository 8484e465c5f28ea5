/**
 * The one image that a server serves, as all its connections share it: one gate, one recorder, one
 * order of requests.
 */

import type { BlockBackend } from '../format/block-backend.ts';
import type { DiskImage } from '../format/disk-image.ts';
import { ByteAccess } from './byte-access.ts';
import { GuestRequests } from './guest-requests.ts';
import type { Recorder } from './recorder.ts';

export interface NbdExportOptions {
  readonly backend: BlockBackend;
  /** Announced to clients; requests that change data are refused. */
  readonly readOnly: boolean;
  /** Gets every request that the image serves; left out, nothing is recorded. */
  readonly recorder?: Recorder | undefined;
}

export class NbdExport {
  readonly image: DiskImage;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly access: ByteAccess;

  constructor({ backend, readOnly, recorder }: NbdExportOptions) {
    this.image = backend.image;
    this.size = backend.image.virtualSize;
    this.readOnly = readOnly;
    this.access = new ByteAccess(new GuestRequests(backend, recorder));
  }
}
