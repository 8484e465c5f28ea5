// `npm run fuzz -- --minutes N [--seed N]`: damaged images for as long as asked; a failure names its seed.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string' } },
});
const seed = values.seed ?? String(Date.now() % 1_000_000_000);
console.log(`damaged images from seed ${seed} on, for ${values.minutes} minutes`);
const { status } = spawnSync('vitest', ['run', 'test/format/fuzz/damaged-images.test.ts'], {
  stdio: 'inherit',
  env: { ...process.env, FUZZ_MINUTES: values.minutes, FUZZ_SEED: seed },
});
process.exit(status ?? 1);
