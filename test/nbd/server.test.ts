/** What the server does with clients that do not keep to the protocol, or that leave. */

import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { openStack, type Stack } from '../../src/bench/stack.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { createImage } from '../../src/format/registry.ts';
import { NbdExport } from '../../src/nbd/nbd-export.ts';
import { COMMAND, COMMAND_FLAG, NBD_ERROR, NBD_LIMITS } from '../../src/nbd/protocol.ts';
import { Recorder } from '../../src/nbd/recorder.ts';
import { NbdServer, type NbdServerOptions } from '../../src/nbd/server.ts';
import type { Request } from '../../src/workload/request.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { testDirectory } from '../test-directory.ts';
import { RawClient } from './raw-client.ts';

const SIZE = 64 * 1024 * 1024;
const MIB = 1024 * 1024;

let directory: string;
let socket: string;
let stack: Stack;
let server: NbdServer;
let recorded: Request[];
let notes: string[];
let defects: unknown[];
let idle: number;
const clients: RawClient[] = [];

beforeEach(async () => {
  directory = testDirectory();
  socket = join(directory, 'nbd.sock');
  [recorded, notes, defects, idle] = [[], [], [], 0];
  const storage = new MemoryStorage();
  const device = storage.create('disk');
  await createImage({ format: 'qcow2', device, virtualSize: SIZE });
  device.close();
  stack = await openStack({ storage, imageName: 'disk', format: 'qcow2', cache: 'writeback' });
  server = await start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await server.stop();
  await stack.close();
  expect(defects).toEqual([]);
});

async function start(
  options: Partial<Pick<NbdServerOptions, 'exportName' | 'silenceMs' | 'memory'>> & {
    readonly readOnly?: boolean;
  } = {},
): Promise<NbdServer> {
  let ns = 0;
  const recorder = new Recorder({ nowNs: () => (ns += 10), sink: (request) => void recorded.push(request) });
  const { readOnly = false, ...others } = options;
  const made = new NbdServer({
    ...others,
    served: new NbdExport({ backend: stack.backend, readOnly, recorder }),
    note: (text) => notes.push(text),
    onIdle: () => idle++,
    onDefect: (error) => defects.push(error),
  });
  await made.listen({ kind: 'unix', path: socket });
  return made;
}

async function connect(): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  clients.push(client);
  return client;
}

async function user(): Promise<RawClient> {
  const client = await connect();
  expect(await client.go()).toBe(SIZE);
  return client;
}

/** Another client is served as if nothing had happened. */
async function expectOthersServed(): Promise<void> {
  const other = await user();
  other.request(COMMAND.write, 4096, 512, { data: new Uint8Array(512).fill(9) });
  expect(await other.simpleReply()).toBe(0);
  other.request(COMMAND.read, 4096, 512);
  expect(await other.simpleReply()).toBe(0);
  expect((await other.read(512)).every((byte) => byte === 9)).toBe(true);
  other.request(COMMAND.disconnect, 0, 0);
  await other.closed();
}

describe('a client that breaks the protocol is let go, and the others are served', () => {
  const BREACHES: readonly (readonly [string, (client: RawClient) => Promise<void> | void])[] = [
    [
      'unknown client flags',
      async (client) => {
        await client.read(18);
        client.send(0xff);
      },
    ],
    [
      'an option without its magic',
      async (client) => {
        await client.read(18);
        client.send(3, 1, 2, 3, 4);
      },
    ],
    [
      'an option of 4 GiB',
      async (client) => {
        await client.read(18);
        client.send(3, 0x49484156, 0x454f5054, 7, 0xffff_ffff);
      },
    ],
    [
      'more options than a client needs',
      async (client) => {
        await client.read(18);
        client.send(3);
        for (let index = 0; index < 300; index++) client.send(0x49484156, 0x454f5054, 8, 0);
      },
    ],
    [
      'a request without its magic',
      async (client) => {
        await client.go();
        client.send(Buffer.alloc(28, 0xaa));
      },
    ],
    [
      'a write of more than 32 MiB',
      async (client) => {
        await client.go();
        client.request(COMMAND.write, 0, 33 * MIB);
        expect(await client.simpleReply()).toBe(NBD_ERROR.invalid);
      },
    ],
  ];

  it.each(BREACHES)('%s', async (_name, breach) => {
    const client = await connect();
    await breach(client);
    await client.closed();
    expect(notes).toHaveLength(1);
    await expectOthersServed();
  });

  it('what it calls itself cannot write to the terminal', async () => {
    await server.stop();
    server = await start({ exportName: 'disk' });
    const client = await connect();
    await client.read(18);
    const name = Buffer.from('\u001b[2J\u0007\r\nforged: line');
    client.send(3, 0x49484156, 0x454f5054, 1, name.byteLength, name);
    await client.closed();
    expect(notes).toHaveLength(1);
    expect(/\p{Cc}/u.test(notes.join())).toBe(false);
  });
});

describe('a request that cannot be served is answered with an error and changes nothing', () => {
  it.each<[string, number, Parameters<RawClient['request']>]>([
    ['a read past the end', NBD_ERROR.invalid, [COMMAND.read, SIZE - 512, 1024]],
    ['a read far past 2^53', NBD_ERROR.invalid, [COMMAND.read, 2 ** 60, 512]],
    ['a write past the end', NBD_ERROR.noSpace, [COMMAND.write, SIZE, 512, { data: new Uint8Array(512) }]],
    ['zeroes past the end', NBD_ERROR.noSpace, [COMMAND.writeZeroes, SIZE - 512, 0xffff_fe00]],
    ['a trim past the end', NBD_ERROR.invalid, [COMMAND.trim, SIZE, 512]],
    ['a read of more than 32 MiB', NBD_ERROR.invalid, [COMMAND.read, 0, 33 * MIB]],
    ['an unknown command', NBD_ERROR.invalid, [99, 0, 512]],
    ['an unknown flag', NBD_ERROR.invalid, [COMMAND.read, 0, 512, { flags: 1 << 9 }]],
    ['block status that was not agreed on', NBD_ERROR.invalid, [COMMAND.blockStatus, 0, 512]],
  ])('%s', async (_name, error, request) => {
    const client = await user();
    client.request(...request);
    expect(await client.simpleReply()).toBe(error);
    expect(recorded).toEqual([]);
    // The connection goes on.
    client.request(COMMAND.flush, 0, 0);
    expect(await client.simpleReply()).toBe(0);
  });

  it('a change of an export that is read-only', async () => {
    await server.stop();
    server = await start({ readOnly: true });
    const client = await user();
    client.request(COMMAND.write, 0, 512, { data: new Uint8Array(512) });
    expect(await client.simpleReply()).toBe(NBD_ERROR.perm);
    client.request(COMMAND.read, 0, 512);
    expect(await client.simpleReply()).toBe(0);
    expect(await client.read(512)).toEqual(Buffer.alloc(512));
  });
});

describe('clients that leave or stop listening', () => {
  it('one that vanishes in the middle of a write leaves no trace of it', async () => {
    const client = await user();
    client.request(COMMAND.write, 0, MIB, { data: new Uint8Array(1000) });
    client.destroy();
    await expectOthersServed();
    expect(recorded.map(({ op, length }) => `${op} ${String(length)}`)).toEqual(['write 512', 'read 512']);
  });

  it('one that never reads gets no more work done than its replies have room', async () => {
    const client = await user();
    client.socket.pause();
    for (let index = 0; index < 200; index++) client.request(COMMAND.read, 0, 2 * MIB);
    await expectOthersServed();
    const readBytes = recorded.reduce((sum, { op, length }) => sum + (op === 'read' ? length : 0), 0);
    expect(readBytes).toBeLessThan(100 * MIB);
  });

  it('many come at once and one after another, and the end of the last is reported', async () => {
    const several = await Promise.all(Array.from({ length: 8 }, () => user()));
    expect(server.users).toBe(8);
    for (const [index, client] of several.entries()) {
      client.request(COMMAND.write, index * 4096, 4096, { data: new Uint8Array(4096).fill(index + 1) });
    }
    expect(await Promise.all(several.map((client) => client.simpleReply()))).toEqual(several.map(() => 0));
    for (const client of several) client.request(COMMAND.disconnect, 0, 0);
    await Promise.all(several.map((client) => client.closed()));
    await expectOthersServed();
    expect(idle).toBe(2);
  });
});

describe('hostile clients cost bounded memory and keep no other waiting', () => {
  /** As small as the limits can be for requests of 1 MiB, so that few clients reach them. */
  const memory = { reserveBytes: 16 * 1024, commonBytes: 4 * MIB, clientBytes: 2 * MIB, stallMs: 100 };

  async function restart(options: Parameters<typeof start>[0]): Promise<void> {
    await server.stop();
    server = await start(options);
  }

  async function settledBytes(): Promise<number> {
    let before = -1;
    while (before !== server.heldBytes) {
      before = server.heldBytes;
      await delay(20);
    }
    return server.heldBytes;
  }

  it('requests of a client that left are dropped', async () => {
    const client = await user();
    for (let index = 0; index < 1000; index++) client.request(COMMAND.read, 0, 2 * MIB);
    await once(client.socket.end(), 'finish');
    client.destroy();
    await expectOthersServed();
    while (server.users > 0) await delay(5);
    expect(recorded.filter(({ length }) => length === 2 * MIB).length).toBeLessThan(100);
    expect(server.heldBytes).toBe(0);
  });

  it.each([
    ['reads', COMMAND.read, 256 * 1024],
    ['small reads', COMMAND.read, 512],
    ['flushes', COMMAND.flush, 0],
    ['refused reads', COMMAND.read, 64 * MIB],
  ])('of %s that are never taken only so many are served', async (_name, command, length) => {
    await restart({ memory: { ...memory, stallMs: 60_000 } });
    const count = 20_000;
    for (let index = 0; index < 6; index++) {
      const client = await user();
      client.socket.pause();
      for (let request = 0; request < count; request++) client.request(command, 0, length);
    }
    expect(await settledBytes()).toBeLessThanOrEqual(memory.commonBytes + 7 * memory.reserveBytes);
    expect(recorded.length).toBeLessThan(6 * count);
    await expectOthersServed();
  });

  it('one that takes no reply gives way to one that waits for its memory', async () => {
    await restart({ memory });
    for (let index = 0; index < 6; index++) {
      const client = await user();
      client.socket.pause();
      for (let request = 0; request < 20; request++) client.request(COMMAND.read, 0, MIB);
    }
    await settledBytes();
    const other = await user();
    for (let index = 0; index < 8; index++) {
      other.request(COMMAND.read, index * MIB, MIB);
      expect(await other.simpleReply()).toBe(0);
      await other.read(MIB);
    }
    expect(notes.join()).toContain('is idle');
  });

  it('one whose data never come gives way too, and nothing of them is written', async () => {
    await restart({ memory });
    for (let index = 0; index < 4; index++) {
      const client = await user();
      client.request(COMMAND.write, 0, MIB, { data: new Uint8Array(MIB / 2).fill(1) });
    }
    await settledBytes();
    const other = await user();
    other.request(COMMAND.read, 0, MIB);
    expect(await other.simpleReply()).toBe(0);
    expect(await other.read(MIB)).toEqual(Buffer.alloc(MIB));
    expect(recorded.map(({ op }) => op)).toEqual(['read']);
  });

  it('one that takes its replies is kept, however long others wait', async () => {
    await restart({ memory: { ...memory, stallMs: 5000 } });
    const clients = await Promise.all(Array.from({ length: 8 }, () => user()));
    for (const client of clients) {
      for (let index = 0; index < 20; index++) client.request(COMMAND.read, 0, MIB);
    }
    await Promise.all(
      clients.map(async (client) => {
        for (let index = 0; index < 20; index++) {
          expect(await client.simpleReply()).toBe(0);
          await client.read(MIB);
        }
      }),
    );
    expect(notes).toEqual([]);
  });

  it('a small request is served before the many large ones that another client sent first', async () => {
    const greedy = await user();
    greedy.socket.pause();
    for (let index = 0; index < 400; index++) greedy.request(COMMAND.writeZeroes, 0, SIZE);
    const other = await user();
    other.request(COMMAND.read, 0, 512);
    expect(await other.simpleReply()).toBe(0);
    expect(recorded.length).toBeLessThan(400);
  });
});

describe('connections that say nothing', () => {
  it.each<[string, (client: RawClient) => void]>([
    ['nothing', () => undefined],
    ['half of its flags', (client) => client.send(new Uint8Array(2))],
    ['half an option', (client) => client.send(3, 0x49484156, 0x454f5054, 7, 100)],
  ])('a client that sends %s is let go after a while', async (_name, begin) => {
    await server.stop();
    server = await start({ silenceMs: 50 });
    const client = await connect();
    begin(client);
    await client.closed();
    expect(notes).toEqual(['connection 1: no export was chosen within 0.05 s; closed']);
  });

  it('one that chose the export may be silent', async () => {
    await server.stop();
    server = await start({ silenceMs: 50 });
    const client = await user();
    await delay(200);
    client.request(COMMAND.flush, 0, 0);
    expect(await client.simpleReply()).toBe(0);
  });

  it('the oldest of them makes room for a new one, not a client in use', async () => {
    const used = await user();
    const silent: RawClient[] = [];
    for (let index = 0; index < NBD_LIMITS.connections - 1; index++) {
      const client = await connect();
      await client.read(18);
      silent.push(client);
    }
    await expectOthersServed();
    await silent[0]?.closed();
    expect(notes).toEqual(['connection 2: closed to admit a new connection; closed']);
    used.request(COMMAND.flush, 0, 0);
    expect(await used.simpleReply()).toBe(0);
  });
});

describe('the name of the export', () => {
  /** EXPORT_NAME with this name; whether the export was given. */
  async function gives(name: string): Promise<boolean> {
    const client = await connect();
    await client.read(18);
    client.send(3, 0x49484156, 0x454f5054, 1, Buffer.byteLength(name), Buffer.from(name));
    return client.read(10).then(
      () => true,
      () => false,
    );
  }

  async function listed(): Promise<string> {
    const client = await connect();
    await client.read(18);
    client.send(3, 0x49484156, 0x454f5054, 3, 0);
    const reply = await client.read(24);
    return (await client.read(reply.readUInt32BE(20))).toString();
  }

  it('may be any unless one is given', async () => {
    expect(await Promise.all(['', 'disk', 'ü/%'].map(gives))).toEqual([true, true, true]);
    expect(await listed()).toBe('');
  });

  it('is the given one alone, as of qemu-nbd', async () => {
    await server.stop();
    server = await start({ exportName: 'disk' });
    expect(await Promise.all(['disk', '', 'disk2', 'Disk'].map(gives))).toEqual([true, false, false, false]);
    expect(await listed()).toBe('disk');
  });
});

describe('what is recorded', () => {
  it('is each request as it was asked, in order, with times and no data', async () => {
    const client = await user();
    client.request(COMMAND.write, 0, 4096, { flags: COMMAND_FLAG.fua, data: new Uint8Array(4096).fill(5) });
    client.request(COMMAND.writeZeroes, 65_536, 65_536);
    client.request(COMMAND.writeZeroes, 131_072, 65_536, { flags: COMMAND_FLAG.noHole });
    client.request(COMMAND.trim, 0, 4096);
    client.request(COMMAND.flush, 0, 0);
    for (let index = 0; index < 5; index++) expect(await client.simpleReply()).toBe(0);
    client.request(COMMAND.read, 512, 512);
    expect(await client.simpleReply()).toBe(0);
    const plain = { fua: false, unmap: false };
    expect(recorded).toMatchObject([
      { op: 'write', offset: 0, length: 4096, fua: true, unmap: false },
      { op: 'write-zeroes', offset: 65_536, length: 65_536, fua: false, unmap: true },
      { op: 'write-zeroes', offset: 131_072, length: 65_536, ...plain },
      { op: 'discard', offset: 0, length: 4096, ...plain },
      { op: 'flush', ...plain },
      { op: 'read', offset: 512, length: 512, ...plain },
    ]);
    const times = recorded.map(({ timeNs }) => timeNs);
    expect(times[0]).toBe(0);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  it('bytes off the sectors change only themselves, and are recorded as whole sectors', async () => {
    const client = await user();
    client.request(COMMAND.write, 0, 1536, { data: new Uint8Array(1536).fill(1) });
    client.request(COMMAND.write, 100, 1000, { data: new Uint8Array(1000).fill(2) });
    expect([await client.simpleReply(), await client.simpleReply()]).toEqual([0, 0]);
    client.request(COMMAND.read, 90, 1020);
    expect(await client.simpleReply()).toBe(0);
    const expected = Buffer.alloc(1020, 2);
    expected.fill(1, 0, 10).fill(1, 1010);
    expect(await client.read(1020)).toEqual(expected);
    expect(recorded.every(({ offset, length }) => offset % 512 === 0 && length % 512 === 0)).toBe(true);
  });
});

describe('where it listens', () => {
  const listening = (address: Parameters<NbdServer['listen']>[0]): Promise<string | undefined> => {
    const other = new NbdServer({
      served: new NbdExport({ backend: stack.backend, readOnly: false }),
      note: () => undefined,
      onDefect: (error) => defects.push(error),
    });
    return rejectionCodeOf(async () => {
      await other.listen(address);
      await other.stop();
    });
  };

  it('a socket that another server answers on is left alone', async () => {
    expect(await listening({ kind: 'unix', path: socket })).toBe('socket-in-use');
    await expectOthersServed();
  });

  it('a file that is no socket is left alone', async () => {
    const path = join(directory, 'file');
    writeFileSync(path, 'mine');
    expect(await listening({ kind: 'unix', path })).toBe('not-a-socket');
    expect(existsSync(path)).toBe(true);
  });

  it('an address that other machines reach is refused unless it is allowed', async () => {
    const address = { kind: 'tcp', host: '0.0.0.0', port: 0 } as const;
    expect(await listening({ ...address, allowRemote: false })).toBeDefined();
    expect(await listening({ ...address, allowRemote: true })).toBeUndefined();
    expect(await listening({ ...address, host: '127.0.0.1', allowRemote: false })).toBeUndefined();
  });
});
