/** The facts of raw: the bytes of the file are the disk, and nothing else is in it. */

import type { FormatFacts } from '../format-facts.ts';
import { impossibleRaw } from './rules.ts';

export const rawFormat: FormatFacts = {
  title: 'raw',
  meaning: 'the guest disk byte for byte, no metadata: the lower bound',
  lacks: 'metadata',
  contents: 'raw',
  refcountModes: [],
  backing: 'none',
  shape: ['preallocation'],
  cacheSizes: [],
  hasDiscardNoUnref: false,
  hasPolicies: false,
  hasCompression: false,
  hasSnapshots: false,
  hasCheck: false,
  zeroing: 'on-request',
  requestNs: 1500,
  impossible: impossibleRaw,
  fullFileSize: ({ virtualSize }) => virtualSize,
  loadEngine: async () => (await import('./engine.ts')).RAW_ENGINE,
};
