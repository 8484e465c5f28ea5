/** What QED does with files. */

import type { CheckOptions, CheckReport } from '../check-report.ts';
import type { FormatEngine, ImageDetails, LoneFile } from '../format-facts.ts';
import { recounted } from '../recounted.ts';
import { checkQed } from './check.ts';
import { createQed } from './create.ts';
import { readQedLayout } from './file-layout.ts';
import { HEADER_SIZE, parseQedHeader } from './header.ts';
import { openQed } from './open.ts';

export const QED_ENGINE: FormatEngine = {
  open: openQed,
  create: createQed,
  describe,
  check,
  readLayout: readQedLayout,
};

async function describe({ device, options, backing }: LoneFile): Promise<ImageDetails> {
  const fields = new Uint8Array(HEADER_SIZE);
  await device.read(0, fields, 'header');
  const size = device.size();
  const image = await openQed(options);
  await image.abandon();
  const { geometry, needCheck, virtualSize } = parseQedHeader(fields, { path: device.path, size });
  return {
    virtualSize,
    clusterSize: geometry.clusterSize,
    isDirty: needCheck,
    backing: backing(),
    specific: { 'table-size': geometry.tableSize },
  };
}

async function check({ device }: LoneFile, options: CheckOptions): Promise<CheckReport> {
  const first = await checkQed(device, options);
  return options.repair === undefined ? first : recounted(first, () => checkQed(device));
}
