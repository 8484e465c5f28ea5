/** The one place where the program reads time: everything below is handed this clock. */

import type { Clock } from '../bench/clock.ts';

const NS_PER_US = 1000;
const NS_PER_MS = 1e6;

export const PROCESS_CLOCK: Clock = {
  nowNs: () => process.hrtime.bigint(),
  ticksNs: () => performance.now() * NS_PER_MS,
  cpuTimes: () => {
    const { userCPUTime, systemCPUTime, involuntaryContextSwitches } = process.resourceUsage();
    return {
      userNs: userCPUTime * NS_PER_US,
      systemNs: systemCPUTime * NS_PER_US,
      preemptions: involuntaryContextSwitches,
    };
  },
};

/** What time of day it is, since 1970, UTC. */
export function wallClock(): { readonly seconds: number; readonly nanoseconds: number } {
  const milliseconds = Date.now();
  return {
    seconds: Math.floor(milliseconds / 1000),
    nanoseconds: (milliseconds % 1000) * NS_PER_MS,
  };
}
