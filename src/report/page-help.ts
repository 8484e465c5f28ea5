/**
 * How each chart of a page is read, and what each cache mode promises: the texts that the page shows next to
 * its charts. docs/report.md and docs/cache-modes.md have the same (`test/report/page-help.test.ts`).
 */

import type { CacheMode } from '../result/vocabulary.ts';

/** By identifier of the chart. */
export const CHART_HELP: Readonly<Record<string, string>> = {
  syncs:
    'Each bar is one cell: the syncs that the host had to wait for, divided by the writes of the guest. A part is one cause. 1.00 of writethrough or guest-flush is what the guest asked for; all else is added by the format.',
  bytes:
    'Bytes that were written besides the data of the guest, per guest write. A part is one purpose. Refcount blocks are what lazy refcounts spare; cow is the rest of a new cluster.',
  amplification:
    'All bytes written, divided by those of the guest: 1.00× writes nothing but guest data. Zeroing a range transfers nothing and is not in it.',
  reads:
    'Host reads for one guest read: 1.00 reads the data alone, more are tables that the cache did not hold.',
  times:
    'Each point is a sample of this machine or of a modelled device. Two cells differ where their intervals do not overlap; the ratio chart says by how much.',
  ratios:
    'Below 1.00× a cell is faster than its reference. An interval that overlaps the grey band shows no difference: the band is the reference timed against itself.',
  split:
    'Waiting for syncs, other host operations, and what is left: the engine and the harness. Compare shares, not lengths: timing each operation takes time too.',
  p99: 'One write of a hundred takes longer than this. Long bars next to short medians are requests that waited for a sync of another.',
  timeline:
    'Time goes to the right. The guest’s request is on top; below it are its host operations, in lanes for data, metadata and syncs. The first request of B that differs from A is framed. Arrow keys move, plus and minus zoom.',
  'image-map':
    'To the right is the place in the image file, downwards the order of writes. A slope is an image that grows; vertical lines are tables written again and again; jumps to the left are seeks. The strip on top is the file after these writes.',
  devices:
    'The same cell on each device model: virtual time, which repeats exactly. Compare downwards, within a device: each column has its own scale.',
  latency:
    'How many of the requests took at most how long; each step to the right is another nine. A curve that rises early has many slow requests, one that rises at the end has few.',
  repair:
    'The rising line is the time that saved syncs add up to; a level line is the repair of an image of one size. Where they cross, a crash is paid back: with fewer writes between two crashes, eager refcounts take less time in all.',
};

/** What a power loss takes, in each mode. */
export const CACHE_HELP: Readonly<Record<CacheMode, string>> = {
  writethrough: 'A write is answered when it is durable. A power loss takes nothing that was answered.',
  directsync:
    'As writethrough, past the page cache of the host. A power loss takes nothing that was answered.',
  writeback:
    'A write is answered when it is in the page cache of the host. A power loss takes what was written since the last flush.',
  none: 'A write is answered when the device has it, perhaps in a cache. A power loss takes what was written since the last flush.',
  unsafe: 'Flushes are answered without a sync. A power loss takes anything; the image may be beyond repair.',
};
