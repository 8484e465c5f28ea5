/**
 * Runs before every test file, also where files share a worker and its imports: no process that a
 * test started outlives it.
 */

import { afterAll, afterEach } from 'vitest';

import { killOwned } from './owned-process.ts';

afterEach(killOwned);
afterAll(killOwned);
