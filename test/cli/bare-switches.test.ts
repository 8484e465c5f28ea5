import { describe, expect, test } from 'vitest';

import { COMMANDS } from '../../src/cli/command-list.ts';
import { BARE_SWITCHES, withSwitchValues } from '../../src/cli/grammar/bare-switches.ts';
import { declaredOptions } from '../../src/cli/grammar/declared-options.ts';

describe('switches', () => {
  test.each([
    [['create', '--extended-l2', 'disk.qcow2', '1GiB'], '--extended-l2=on'],
    [['run', '--overlap', '--queue-depth', '8'], '--overlap=on'],
    [['run', '--overlap'], '--overlap=on'],
    [['run', '--extended-l2', 'off,on'], '--extended-l2'],
    [['run', '--extended-l2=off'], '--extended-l2=off'],
  ])('%j: the word after a switch is its value only if it can be one', (words, expected) => {
    const changed = withSwitchValues(words);
    expect(changed).toHaveLength(words.length);
    expect(changed).toContain(expected);
  });

  test('are the options whose values are off and on', async () => {
    const commands = COMMANDS.flatMap((listed) => ('commands' in listed ? listed.commands : [listed]));
    const found = new Set<string>();
    for (const { load } of commands) {
      for (const [name, { values }] of declaredOptions(await load())) {
        if (values.join() === 'off,on') found.add(name);
      }
    }
    expect([...found].toSorted()).toEqual([...BARE_SWITCHES].toSorted());
  });
});
