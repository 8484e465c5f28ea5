// `npm run fuzz -- --minutes N [--format F] [--seed S [--path P]]`: damaged images for as long as
// asked (test/format/fuzz/fuzz.ts).
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const program = join(import.meta.dirname, '..', 'test', 'format', 'fuzz', 'fuzz.ts');
const { status } = spawnSync('node', [program, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(status ?? 1);
