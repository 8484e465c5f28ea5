/**
 * Our engines do what each version of QEMU did when it was recorded, on the lists of
 * `pairwise.test.ts`: in memory, so that no QEMU is needed. A file of a version holds the same
 * lists as those of the others.
 */

import { describe, expect, it } from 'vitest';

import { QEMU_PROFILE_NAMES } from '../../src/format/qemu-profile.ts';
import { someOf } from '../amount.ts';
import { differencesFromGolden } from './golden-list.ts';
import { goldenFor, readGoldens } from './goldens.ts';
import { everydayLists } from './lists.ts';

describe.each(QEMU_PROFILE_NAMES)('as %s did when it was recorded', (like) => {
  const goldens = readGoldens(like);

  it.each(someOf(everydayLists(), 40))('$name $features', async (list) => {
    expect((await differencesFromGolden(list, goldenFor(list, goldens), like)).join('\n')).toBe('');
  });
});
