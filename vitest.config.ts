import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { defineConfig } from 'vitest/config';

import { CACHE } from './scripts/checks.mjs';
import { newerQemuProject, TEST_PROJECTS, testProjects } from './scripts/test-projects.mjs';

const root = fileURLToPath(new URL('.', import.meta.url));
const files = testProjects(root);
const newerQemu = newerQemuProject(root);
const projects = [
  // A worker imports our sources once for all files of `unit`, which share nothing else: a third of
  // its CPU time.
  ...TEST_PROJECTS.map((name) => ({ name, include: files[name], isolate: name !== 'unit' })),
  ...(newerQemu === undefined ? [] : [newerQemu]),
];

export default defineConfig({
  test: {
    projects: projects.map((test) => ({ extends: true, test })),
    // Processes, not threads: native code, O_DIRECT and working directories stay apart.
    pool: 'forks',
    // One more than the cores of a small machine: many tests wait for disks and other programs.
    maxWorkers: 3,
    // Programs that tests start find our sources compiled, and with their types stripped, from the
    // first file on.
    env: { NODE_COMPILE_CACHE: join(root, CACHE, 'compile') },
    globalSetup: [join(root, 'test', 'global-setup.ts')],
    setupFiles: [join(root, 'test', 'setup.ts')],
    // Only a hang takes this long, on a loaded machine too: nothing here is a measurement.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
    restoreMocks: true,
    // Tests that wait for a real QEMU are slow by nature: name only what stands out.
    slowTestThreshold: 5000,
    reporters: ['default', 'json'],
    outputFile: { json: 'node_modules/.cache/qcow2-bench/vitest.json' },
    coverage: { provider: 'v8', include: ['src/**/*.ts'], reporter: ['text-summary', 'html'] },
  },
});
