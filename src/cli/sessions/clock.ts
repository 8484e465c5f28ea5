/** The one place where the program reads time: everything below is handed this clock. */

import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import type { Clock } from '../../bench/clock.ts';

const NS_PER_US = 1000;
const NS_PER_MS = 1e6;

/** Timers come up to this much late: the rest is waited for turn by turn of the event loop … */
const TIMER_LATE_NS = 2 * NS_PER_MS;
/** … and what is less than a turn may take, looking at the clock. */
const TURN_NS = 30 * NS_PER_US;

export const PROCESS_CLOCK: Clock = {
  nowNs: () => process.hrtime.bigint(),
  ticksNs,
  waitUntil: async (untilNs, signal) => {
    let leftNs = untilNs - ticksNs();
    if (leftNs > TIMER_LATE_NS) {
      await delay((leftNs - TIMER_LATE_NS) / NS_PER_MS, undefined, { signal }).catch(() => undefined);
    }
    for (; leftNs > TURN_NS; leftNs = untilNs - ticksNs()) {
      signal?.throwIfAborted();
      await turn();
    }
    while (ticksNs() < untilNs);
  },
  cpuTimes: () => {
    const { userCPUTime, systemCPUTime, involuntaryContextSwitches } = process.resourceUsage();
    return {
      userNs: userCPUTime * NS_PER_US,
      systemNs: systemCPUTime * NS_PER_US,
      preemptions: involuntaryContextSwitches,
    };
  },
};

function ticksNs(): number {
  return performance.now() * NS_PER_MS;
}

/** What time of day it is, since 1970, UTC. */
export function wallClock(): { readonly seconds: number; readonly nanoseconds: number } {
  const milliseconds = Date.now();
  return {
    seconds: Math.floor(milliseconds / 1000),
    nanoseconds: (milliseconds % 1000) * NS_PER_MS,
  };
}
