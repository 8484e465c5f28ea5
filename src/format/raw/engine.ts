/** What raw does with files. */

import type { FormatEngine } from '../format-facts.ts';
import { createRaw, openRaw } from './raw-image.ts';

/** Any will do: guest and host offsets are the same. */
const LAYOUT_UNIT = 65_536;

export const RAW_ENGINE: FormatEngine = {
  open: (options) =>
    new Promise((resolve) => {
      resolve(openRaw(options));
    }),
  create: createRaw,
  describe: ({ device }) => Promise.resolve({ virtualSize: device.size() }),
  readLayout: () =>
    Promise.resolve({
      clusterSize: LAYOUT_UNIT,
      metadataAt: () => undefined,
      guestOffsetAt: (offset: number) => offset,
    }),
};
