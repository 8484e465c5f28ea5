#!/usr/bin/env node
/**
 * The program. What it needs is loaded after the compile cache is on, which halves the time to the
 * first word.
 *
 * Invariant: an older Node gets as far as the message that it is too old. So this file imports
 * nothing by name that such a Node lacks, and has no syntax newer than a top-level `await`.
 */

import module from 'node:module';

const NODE_MAJOR_MIN = 24;

if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
  process.stderr.write(
    `qcow2-bench needs Node ≥ ${String(NODE_MAJOR_MIN)}; this is v${process.versions.node}\n`,
  );
  process.exitCode = 1;
} else {
  // libuv reads it when its threads are first used; its own 4 would be the queue depth of every run
  // with --overlap.
  if (
    process.argv.some((word) => word.startsWith('--overlap')) &&
    process.env['UV_THREADPOOL_SIZE'] === undefined
  ) {
    process.env['UV_THREADPOOL_SIZE'] = '64';
  }
  // Where the name of the folder for temporary files was decoded with loss, the cache would make
  // another one.
  const isDecodedWhole = ['TMPDIR', 'TMP', 'TEMP'].every(
    (name) => process.env[name]?.includes('\ufffd') !== true,
  );
  if (isDecodedWhole) module.enableCompileCache();
  const { hostWords, keepDirectoryBytes } = await import('./host-words.ts');
  const { runCommandLine } = await import('./command-line.ts');

  keepDirectoryBytes();
  process.exitCode = await runCommandLine(hostWords(process.argv), process.env);
}
