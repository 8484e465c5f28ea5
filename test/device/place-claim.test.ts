/**
 * Two names are not one step: what a kill between them leaves, and what the next command makes of
 * it.
 */

import { linkSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeEach, describe, expect, test } from 'vitest';

import { claimPlace, settleClaims, settleLeftClaims } from '../../src/device/place-claim.ts';
import { testDirectory } from '../test-directory.ts';

let folder: string;

beforeEach(() => {
  folder = testDirectory();
  writeFileSync(at('.follower.tmp'), 'image');
});

function at(name: string): string {
  return join(folder, name);
}

/** Gives `name` its new content, as a rename does. */
function give(name: string, content: string): void {
  const temporary = at(`.${name}.tmp`);
  writeFileSync(temporary, content);
  claimPlace({ temporary, path: at(name), follower: at('.follower.tmp') });
  renameSync(temporary, at(name));
}

/** As the next process finds it. */
function settleAfterKill(): void {
  const names = readdirSync(folder);
  settleLeftClaims(folder, { names, leftovers: names.filter((name) => name.startsWith('.')) });
}

function visible(): Readonly<Record<string, string>> {
  const names = readdirSync(folder).filter((name) => !name.startsWith('.'));
  return Object.fromEntries(names.map((name) => [name, readFileSync(at(name), 'utf8')]));
}

function hidden(): readonly string[] {
  return readdirSync(folder).filter((name) => name.startsWith('.') && name !== '.follower.tmp');
}

describe('killed between the names', () => {
  test('a new file goes, and one that was replaced returns', () => {
    writeFileSync(at('old.data'), 'old');
    give('old.data', 'new');
    give('new.data', 'new');
    settleAfterKill();
    expect(visible()).toEqual({ 'old.data': 'old' });
    expect(hidden()).toEqual([]);
  });

  test('a file that was written to since stays, and what it replaced is kept beside it', () => {
    writeFileSync(at('old.data'), 'old');
    give('old.data', 'new');
    give('new.data', 'new');
    for (const name of ['old.data', 'new.data']) writeFileSync(at(name), 'mine');
    settleAfterKill();
    expect(visible()).toEqual({ 'old.data': 'mine', 'new.data': 'mine' });
    expect(hidden().map((name) => readFileSync(at(name), 'utf8'))).toContain('old');
  });

  test('a name that another file has now, or none, is left alone', () => {
    for (const name of ['a.data', 'b.data']) {
      writeFileSync(at(name), 'old');
      give(name, 'new');
      rmSync(at(name));
    }
    writeFileSync(at('a.data'), 'another');
    settleAfterKill();
    expect(visible()).toEqual({ 'a.data': 'another' });
    const kept = hidden().map((name) => readFileSync(at(name), 'utf8'));
    expect(kept.filter((text) => text === 'old')).toHaveLength(2);
  });

  test('both names were given: everything stays', () => {
    writeFileSync(at('old.data'), 'old');
    give('old.data', 'new');
    linkSync(at('.follower.tmp'), at('image'));
    settleAfterKill();
    expect(visible()).toEqual({ 'old.data': 'new', image: 'image' });
    expect(hidden()).toEqual([]);
  });
});

test('several files before one image leave nothing beside them, done or undone', () => {
  writeFileSync(at('a.data'), 'old');
  give('a.data', 'new');
  give('b.data', 'new');
  settleClaims(at('.follower.tmp'), 'kept');
  expect(hidden()).toEqual([]);
  expect(statSync(at('a.data')).nlink).toBe(1);

  give('a.data', 'newer');
  give('c.data', 'newer');
  settleClaims(at('.follower.tmp'), 'undone');
  expect(visible()).toEqual({ 'a.data': 'new', 'b.data': 'new' });
  expect(hidden()).toEqual([]);
});
