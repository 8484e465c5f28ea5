#!/usr/bin/env node
/** The program. What it needs is loaded after the compile cache is on, which halves the time to the first word. */

import { enableCompileCache } from 'node:module';

// libuv reads it when its threads are first used; its own 4 would be the queue depth of every run with --overlap.
if (process.argv.includes('--overlap')) process.env['UV_THREADPOOL_SIZE'] ??= '64';
enableCompileCache();
const { hostWords, keepDirectoryBytes } = await import('./host-words.ts');
const { runCommandLine } = await import('./command-line.ts');

keepDirectoryBytes();
process.exitCode = await runCommandLine(hostWords(process.argv), process.env);
