/** How many clients may use an export, and how much is said of those that misbehave. */

import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { openStack, type Stack } from '../../src/bench/stack.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { NOTES_OF_A_KIND } from '../../src/nbd/client-notes.ts';
import { NbdExport } from '../../src/nbd/nbd-export.ts';
import { COMMAND, NBD_LIMITS, OPTION_REPLY } from '../../src/nbd/protocol.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { testDirectory } from '../test-directory.ts';
import { RawClient } from './raw-client.ts';

let directory: string;
let socket: string;
let stack: Stack;
let server: NbdServer;
let notes: string[];
let defects: unknown[];
const clients: RawClient[] = [];

beforeEach(async () => {
  directory = testDirectory();
  socket = join(directory, 'nbd.sock');
  [notes, defects] = [[], []];
  const storage = new MemoryStorage();
  const device = storage.create('disk');
  device.truncate(1024 * 1024, 'data');
  device.close();
  stack = await openStack({ storage, imageName: 'disk', format: 'raw', cache: 'writeback' });
  server = new NbdServer({
    served: new NbdExport({ backend: stack.backend, readOnly: false }),
    note: (text) => notes.push(text),
    onDefect: (error) => defects.push(error),
  });
  await server.listen({ kind: 'unix', path: socket });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await server.stop();
  await stack.close();
  expect(defects).toEqual([]);
});

async function connect(): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  clients.push(client);
  return client;
}

async function user(): Promise<RawClient> {
  const client = await connect();
  await client.go();
  return client;
}

describe('at the limit of clients that use the export', () => {
  /** GO with an empty name and no queries. */
  const go = [0x49484156, 0x454f5054, 7, 6, 0, Buffer.alloc(2)] as const;

  it('a further one is refused with a message and may try again; none of those that are idle is disconnected', async () => {
    const users = await Promise.all(Array.from({ length: NBD_LIMITS.users }, () => user()));
    const late = await connect();
    await late.read(18);
    late.send(3, ...go);
    const head = await late.read(20);
    expect(head.readUInt32BE(12)).toBe(OPTION_REPLY.errorPolicy);
    expect((await late.read(head.readUInt32BE(16))).toString()).toMatch(/64 clients, the maximum: try again/);
    // The old way to choose an export has no reply for it.
    const old = await connect();
    await expect(old.go()).rejects.toThrow('closed after 0');
    const silent = await Promise.all(Array.from({ length: 2 * NBD_LIMITS.users }, () => connect()));
    await silent[0]?.closed();
    for (const each of users) {
      each.request(COMMAND.flush, 0, 0);
      expect(await each.simpleReply()).toBe(0);
    }
    users[0]?.request(COMMAND.disconnect, 0, 0);
    await users[0]?.closed();
    const again = await connect();
    await again.read(18);
    again.send(3, ...go);
    expect((await again.read(20)).readUInt32BE(12)).toBe(OPTION_REPLY.info);
    expect(server.users).toBe(NBD_LIMITS.users);
  });
});

describe('what is said of clients', () => {
  it('is bounded however many misbehave, and the rest is counted at the end', async () => {
    const count = NOTES_OF_A_KIND + 30;
    for (let index = 0; index < count; index++) {
      const client = await connect();
      await client.read(18);
      client.send(0xff);
      await client.closed();
    }
    expect(notes).toHaveLength(NOTES_OF_A_KIND + 1);
    expect(notes.at(-1)).toBe(
      'further connections that broke the protocol are only counted until the server exits',
    );
    await server.stop();
    expect(notes.at(-1)).toBe('further connections that broke the protocol: 30');
  });
});
