/** A workload file of ten writes, each of which allocates a cluster of 64 KiB. */
export const TINY = {
  schema: 'qcow2-bench/workload@1',
  name: 'tiny',
  title: 'Ten writes',
  description: 'Ten writes of 4 KiB.',
  seed: 3,
  image: { size: '1MiB' },
  phases: [
    {
      name: 'write',
      requests: 10,
      mix: { write: 1 },
      blockSizes: [{ size: '4KiB' }],
      pattern: { kind: 'stride', stride: '64KiB' },
    },
  ],
};
