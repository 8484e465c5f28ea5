import { expect, test } from 'vitest';

import { declaredOptions } from '../../src/cli/grammar/declared-options.ts';
import { LISTED, tryEveryOption } from './every-option.ts';
import { COMMAND_CASES, PLAUSIBLE } from './option-cases.ts';

test('the table names commands and options that exist', async () => {
  expect([...COMMAND_CASES.keys()].toSorted()).toEqual(LISTED.map(([name]) => name).toSorted());
  const known = new Set<string>();
  for (const [name, listed] of LISTED) {
    const declared = declaredOptions(await listed.load());
    for (const option of declared.keys()) known.add(option);
    const { call: words = {}, partners = {} } = COMMAND_CASES.get(name) ?? {};
    const named = [words, ...Object.values(partners)].flatMap((each) => Object.keys(each));
    const options = [...named, ...Object.keys(partners)].filter((word) => word !== word.toUpperCase());
    expect(
      options.filter((option) => !declared.has(option)),
      name,
    ).toEqual([]);
  }
  expect(Object.keys(PLAUSIBLE).filter((option) => !known.has(option))).toEqual([]);
});

tryEveryOption('others');
