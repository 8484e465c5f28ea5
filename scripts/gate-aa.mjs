/**
 * The gate against itself: 200 runs of counts, half of them on a machine whose processors are busy
 * and half while its disk is, each gated against the baseline of the first. Any alarm is false. It
 * takes some minutes.
 *
 *     node scripts/gate-aa.mjs [RUNS]
 */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const COUNTED =
  'run --workload database-commit --requests 100 --cache writethrough --queue-depth 1,8 --samples 0'.split(
    ' ',
  );

/** Scripts that keep a part of the machine busy until they are ended. */
const LOADS = {
  processors: 'for (;;);',
  disk: `const fs = require('node:fs'); const file = fs.openSync(process.argv[1], 'w'); const bytes = Buffer.alloc(1 << 20, 7);
    for (let at = 0; ; at = (at + bytes.length) % (64 << 20)) { fs.writeSync(file, bytes, 0, bytes.length, at); fs.fdatasyncSync(file); }`,
};

const runs = Number(process.argv[2] ?? 200);
const folder = mkdtempSync(join(tmpdir(), 'qcow2-bench-aa-'));

/** @param {string[]} words */
function qb(...words) {
  const done = spawnSync(process.execPath, [PROGRAM, ...words], { cwd: folder, encoding: 'utf8' });
  return { status: done.status, text: `${done.stdout}${done.stderr}` };
}

let alarms = 0;
/** @type {import('node:child_process').ChildProcess[]} */
let busy = [];
process.once('exit', () => {
  for (const child of busy) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
try {
  qb(...COUNTED, '--out', 'base.json');
  qb('gate', 'base.json', '--accept', '--baseline', 'baseline.json');
  for (const [name, script] of Object.entries(LOADS)) {
    busy = cpus().map((_, at) => spawn(process.execPath, ['-e', script, join(folder, `load-${at}`)]));
    try {
      for (let run = 0; run < runs / 2; run++) {
        const counted = qb(...COUNTED, '--out', 'again.json', '--overwrite');
        const gated = qb('gate', 'again.json', '--baseline', 'baseline.json', '--quiet');
        if (counted.status === 0 && gated.status === 0) continue;
        alarms++;
        console.log(counted.text, gated.text);
      }
    } finally {
      await Promise.all(
        busy.map(async (child) => {
          const ended = once(child, 'exit');
          child.kill('SIGKILL');
          await ended;
        }),
      );
    }
    console.log(`${Math.ceil(runs / 2)} runs with busy ${name}: ${alarms} alarms so far`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = alarms === 0 ? 0 : 1;
