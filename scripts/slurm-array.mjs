/**
 * The job array of `examples/ci/slurm-shards.sh` on a real Slurm of one node: eight tasks, one of
 * which is killed in mid-run and requeued; the merged result has to be that of one machine.
 *
 * Slurm comes from Debian's packages, unpacked into a folder of the clone: nothing is installed.
 * Its daemons listen on the loopback interface, belong to this process and end with it. Where it
 * cannot run, one line says why.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { cpus, hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { NotTried, run, unpackInto } from './debian-packages.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = join(ROOT, 'node_modules', '.cache', 'qcow2-bench', 'slurm');
const PACKAGES = [
  'slurm-client',
  'slurmctld',
  'slurmd',
  'slurm-wlm-basic-plugins',
  'munge',
  'libmunge2',
  'libhwloc15',
  'liblua5.1-0',
];
const TASKS = 8;
const COUNTED = ['bench', '--samples', '0'];
const STARTED_SECONDS = 30;
const DONE_SECONDS = 600;

/** @returns {string} the folder with Slurm's `usr` */
function bring() {
  if (!existsSync(FOLDER)) unpackInto(FOLDER, download);
  return FOLDER;
}

/**
 * @param {string} work an empty folder
 * @returns {string[]} files
 */
function download(work) {
  run('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', ...PACKAGES], { cwd: work });
  return readdirSync(work)
    .filter((name) => name.endsWith('.deb'))
    .map((name) => join(work, name));
}

/** @returns {Promise<number>} of the loopback interface, not in use now */
async function freePort() {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** One controller and one node; ended by `stop`. */
class Slurm {
  /**
   * @param {string} staged
   * @param {string} state
   */
  constructor(staged, state) {
    this.staged = staged;
    this.state = state;
    /** @type {import('node:child_process').ChildProcess[]} */
    this.daemons = [];
    const machine = run('uname', ['-m']).trim();
    this.libraries = join(staged, 'usr', 'lib', `${machine}-linux-gnu`);
    this.environment = {
      ...process.env,
      SLURM_CONF: join(state, 'slurm.conf'),
      LD_LIBRARY_PATH: `${this.libraries}:${join(this.libraries, 'slurm-wlm')}`,
      QCOW2_BENCH: join(ROOT, 'bin', 'qb'),
    };
  }

  async start() {
    const [control, node] = [await freePort(), await freePort()];
    for (const folder of ['spool', 'control']) mkdirSync(join(this.state, folder));
    const host = hostname().split('.')[0];
    writeFileSync(
      this.environment.SLURM_CONF,
      [
        'ClusterName=loopback',
        `SlurmctldHost=${host}(127.0.0.1)`,
        `SlurmctldPort=${control}`,
        `SlurmdPort=${node}`,
        'SlurmUser=root',
        'SlurmdUser=root',
        'AuthType=auth/none',
        'CredType=cred/none',
        // A requeued task waits until the credentials of its first start have expired.
        'AuthInfo=cred_expire=5',
        `PluginDir=${join(this.libraries, 'slurm-wlm')}`,
        `StateSaveLocation=${join(this.state, 'control')}`,
        `SlurmdSpoolDir=${join(this.state, 'spool')}`,
        `SlurmctldPidFile=${join(this.state, 'slurmctld.pid')}`,
        `SlurmdPidFile=${join(this.state, 'slurmd.pid')}`,
        'ProctrackType=proctrack/linuxproc',
        'TaskPlugin=task/none',
        'SwitchType=switch/none',
        'JobAcctGatherType=jobacct_gather/none',
        'AccountingStorageType=accounting_storage/none',
        'MpiDefault=none',
        'SelectType=select/cons_tres',
        'SelectTypeParameters=CR_CPU',
        'SlurmdParameters=config_overrides',
        'ReturnToService=2',
        'KillWait=1',
        'MinJobAge=3600',
        `NodeName=${host} NodeAddr=127.0.0.1 Port=${node} CPUs=${cpus().length} State=UNKNOWN`,
        `PartitionName=all Nodes=${host} Default=YES State=UP`,
        '',
      ].join('\n'),
    );
    this.daemon('slurmctld-wlm', ['-D']);
    this.daemon('slurmd-wlm', ['-D', '-N', String(host), '-d', join(this.staged, 'usr/sbin/slurmstepd-wlm')]);
    await until(
      STARTED_SECONDS,
      'the node is not ready',
      () => /\bidle\b/.test(this.try('sinfo', ['-h'])),
      () => this.log(),
    );
  }

  /**
   * @param {string} name
   * @param {string[]} args
   */
  daemon(name, args) {
    const child = spawn(join(this.staged, 'usr/sbin', name), args, { env: this.environment, detached: true });
    const keep = (/** @type {Buffer} */ text) => {
      this.lines.push(...text.toString().split('\n').filter(Boolean));
      this.lines.splice(0, Math.max(0, this.lines.length - 20));
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => this.lines.push(error.message));
    this.daemons.push(child);
  }

  /** @type {string[]} */
  lines = [];

  log() {
    return this.lines.at(-1) ?? '';
  }

  /**
   * @param {string} tool
   * @param {string[]} args
   */
  tool(tool, args, cwd = this.state) {
    return run(join(this.staged, 'usr/bin', tool), args, { env: this.environment, cwd });
  }

  /**
   * @param {string} tool
   * @param {string[]} args
   */
  try(tool, args) {
    try {
      return this.tool(tool, args);
    } catch {
      return '';
    }
  }

  async stop() {
    this.try('scancel', ['--user=root']);
    // A step that loses its daemon would wait for it.
    for (let turn = 0; turn < 100; turn++) {
      if (this.try('squeue', ['-h', '-t', 'running,completing']).trim() === '') break;
      await sleep(200);
    }
    for (const daemon of this.daemons.reverse()) {
      if (daemon.exitCode !== null || daemon.pid === undefined) continue;
      const ended = once(daemon, 'exit');
      daemon.kill('SIGTERM');
      const late = setTimeout(() => daemon.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(late);
    }
  }
}

let isInterrupted = false;
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => (isInterrupted = true));

/**
 * @param {number} seconds
 * @param {string} failure
 * @param {() => boolean} isSo
 * @param {() => string} why
 */
async function until(seconds, failure, isSo, why) {
  const end = Date.now() + seconds * 1000;
  while (!isSo()) {
    if (isInterrupted) throw new NotTried('interrupted');
    if (Date.now() > end) throw new NotTried(`${failure} after ${seconds} s: ${why()}`);
    await sleep(200);
  }
}

/** @param {string} path a result that is being written, or none */
function cellsIn(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).cells.length : 0;
}

/** @param {string} path */
function countsIn(path) {
  const { cells } = JSON.parse(readFileSync(path, 'utf8'));
  return JSON.stringify(
    cells.map((/** @type {any} */ { cell, counts, requests }) => [cell, counts, requests]),
  );
}

/**
 * @param {Slurm} slurm
 * @param {string} shared the directory of the results
 */
async function runArray(slurm, shared) {
  const script = join(ROOT, 'examples', 'ci', 'slurm-shards.sh');
  const said = slurm.tool('sbatch', ['--parsable', script, ...COUNTED], shared);
  const job = said.trim().split(';')[0];
  const states = () => slurm.try('squeue', ['-h', '-r', '-t', 'all', '-o', '%K %T']).trim().split('\n');
  // Killed while it counts, before its result is whole.
  const killed = 3;
  await until(
    DONE_SECONDS,
    `task ${killed} did not start`,
    () => states().includes(`${killed} RUNNING`) && cellsIn(join(shared, `shard-${killed}.json`)) > 0,
    () => states().join(', '),
  );
  const cells = cellsIn(join(shared, `shard-${killed}.json`));
  slurm.tool('scontrol', ['requeue', `${job}_${killed}`]);
  const expected = Array.from({ length: TASKS }, (_, at) => `${at + 1} COMPLETED`);
  await until(
    DONE_SECONDS,
    'the array is not done',
    () => expected.every((state) => states().includes(state)),
    () => states().join(', '),
  );
  const restarts = /Restarts=(\d+)/.exec(slurm.tool('scontrol', ['show', 'job', `${job}_${killed}`]))?.[1];
  return { killed, cells, restarts: Number(restarts) };
}

async function main() {
  if (process.getuid?.() !== 0) throw new NotTried('its daemons need root');
  const staged = bring();
  const work = mkdtempSync(join(tmpdir(), 'qcow2-bench-array-'));
  const shared = join(work, 'shared');
  mkdirSync(shared);
  const slurm = new Slurm(staged, work);
  try {
    await slurm.start();
    const { killed, cells, restarts } = await runArray(slurm, shared);
    const qb = (/** @type {string[]} */ ...words) => run(join(ROOT, 'bin', 'qb'), words, { cwd: shared });
    const shards = Array.from({ length: TASKS }, (_, at) => `shard-${at + 1}.json`);
    console.log(qb('merge', ...shards, '--out', 'result.json').trim());
    qb(...COUNTED, '--out', 'whole.json');
    const isEqual = countsIn(join(shared, 'result.json')) === countsIn(join(shared, 'whole.json'));
    if (restarts !== 1) throw new Error(`task ${killed} was restarted ${restarts} times, not once`);
    if (!isEqual) throw new Error('the merged counts are not those of one machine');
    console.log(
      `Slurm: ${TASKS} tasks, task ${killed} killed after ${cells} of its cells and requeued; merged counts equal those of one machine`,
    );
  } finally {
    await slurm.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof NotTried)) throw error;
  console.log(`Slurm was not tried: ${error.message}`);
}
