/** A repair counted again afterwards, so that what the report calls left is what the file holds. */

import { Qcow2BenchError } from '../core/error.ts';
import type { CheckReport } from './check-report.ts';

/** What a repair fixed, and what a second check still finds. */
export async function recounted(first: CheckReport, check: () => Promise<CheckReport>): Promise<CheckReport> {
  const { corruptionsFixed, leaksFixed, messages, messagesDropped } = first;
  if (corruptionsFixed + leaksFixed === 0) return first;
  const second = await secondLook(first, check);
  // An error that stopped the repair is reported unless nothing is left to repair.
  const isClean = second.corruptions + second.checkErrors === 0;
  const checkErrors = isClean ? 0 : Math.max(first.checkErrors, second.checkErrors);
  return { ...second, checkErrors, corruptionsFixed, leaksFixed, messages, messagesDropped };
}

/**
 * A repair that did not come to its end can leave an image that no check goes through: it is not
 * refused, but written.
 */
async function secondLook(first: CheckReport, check: () => Promise<CheckReport>): Promise<CheckReport> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof Qcow2BenchError) || first.checkErrors === 0) throw error;
    return first;
  }
}
