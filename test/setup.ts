/**
 * Runs before every test file, also where files share a worker and its imports: no process that a
 * test started outlives it, and no directory that a file made.
 */

import { afterAll, afterEach } from 'vitest';

import { killOwned } from './owned-process.ts';
import { removeTestDirectories } from './test-directory.ts';

afterEach(killOwned);
// Hooks run in the reverse order: the processes end first.
afterAll(removeTestDirectories);
afterAll(killOwned);
