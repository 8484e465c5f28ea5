/** `snapshot`: internal snapshots of an image, listed as `qemu-img snapshot -l` does. */

import { visibleText } from '../../core/visible-text.ts';
import { changeSnapshots, listSnapshots, type SnapshotChange } from '../../image/image-snapshots.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH, FORCE_SHARE } from '../options/backing-options.ts';
import { wallClock } from '../sessions/clock.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { changesImage } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { text } from '../options/option-values.ts';
import { snapshotJson, snapshotTable } from '../terminal/snapshot-list.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const snapshotCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'A qcow2 or B-tree image' })
      .options(
        inGroup('Snapshot:', {
          list: flag('List the snapshots (default)'),
          create: optional('Create a snapshot with this name', text('create')),
          apply: optional('Revert to a snapshot, by ID or name: later writes are lost', text('apply')),
          delete: optional('Delete a snapshot, by name or ID', text('delete')),
          'force-share': FORCE_SHARE,
          json: flag('Print the resulting list as JSON, with the field names of qemu-img info'),
        }),
      )
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        examples([
          ['snapshot disk.qcow2 --create before-upgrade', 'snapshot the current disk'],
          ['snapshot disk.qcow2 --apply before-upgrade', 'revert to it'],
        ]),
      ),

  files: (args) => changesImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const change = askedChange(args);
    const forceShare = args['force-share'];
    if (forceShare && change !== undefined) {
      throw new UsageError('--force-share is read-only: use it with --list only');
    }
    const snapshots =
      change === undefined
        ? await listSnapshots(args.image, { forceShare })
        : await changeSnapshots({ path: args.image, change, backing: backingPolicy(args) });
    if (args.json) terminal.print(JSON.stringify(snapshots.map(snapshotJson), null, 2));
    else if (change === undefined) terminal.print(listText(args.image, snapshots));
    else terminal.print(visibleText(doneText(args.image, change)));
    return EXIT.good;
  },
});

function listText(image: string, snapshots: Parameters<typeof snapshotTable>[0]): string {
  return snapshots.length === 0 ? `${visibleText(image)} has no snapshots` : snapshotTable(snapshots);
}

function doneText(image: string, change: SnapshotChange): string {
  switch (change.action) {
    case 'create':
      return `created snapshot '${change.snapshot.name}' of ${image}`;
    case 'apply':
      return `reverted ${image} to snapshot '${change.which}'`;
    case 'delete':
      return `deleted snapshot '${change.which}' of ${image}`;
  }
}

interface Asked {
  readonly list: boolean;
  readonly create: string | undefined;
  readonly apply: string | undefined;
  readonly delete: string | undefined;
}

/** What is to be done; `undefined` to list. */
function askedChange(args: Asked): SnapshotChange | undefined {
  const { list, create, apply, delete: dropped } = args;
  const asked = [list ? '' : undefined, create, apply, dropped].filter((each) => each !== undefined);
  if (asked.length > 1) {
    throw new UsageError('--list, --create, --apply and --delete are mutually exclusive');
  }
  if (create !== undefined) return { action: 'create', snapshot: { name: create, ...wallClock() } };
  if (apply !== undefined) return { action: 'apply', which: apply };
  return dropped === undefined ? undefined : { action: 'delete', which: dropped };
}
