/**
 * Where a server listens: a Unix socket or a TCP port, and its address for clients.
 *
 * Invariants: only loopback addresses are listened on unless more was asked for; a socket file is
 * removed only if it is a socket without a server.
 */

import { lookup } from 'node:dns/promises';
import { connect, isIP, type ListenOptions, type Server } from 'node:net';

import { bytesOfText } from '../core/byte-text.ts';
import { Qcow2BenchError, systemCode } from '../core/error.ts';
import {
  BindableSocket,
  describeSocketFile,
  listenFailed,
  ReachableSocket,
  removeSocketFile,
} from './socket-file.ts';

export type ListenAddress =
  | { readonly kind: 'unix'; /** Absolute. */ readonly path: string }
  | {
      readonly kind: 'tcp';
      readonly host: string;
      /** 0: any that is free. */
      readonly port: number;
      /** Addresses that other machines reach are allowed. */
      readonly allowRemote: boolean;
    };

export interface BoundAddress {
  /** As libnbd and QEMU take it. */
  readonly uri: string;
}

/** Bytes of a path that the system's socket address holds. */
const SOCKET_PATH_BYTES_MAX = 107;

/**
 * @param exportName what the address is to name; left out, none.
 * @throws Qcow2BenchError `nbd-not-loopback`, `nbd-listen-failed`, `socket-in-use` if another
 *   server answers there, `not-a-socket` if some other file is in the way.
 */
export async function listenOn(
  server: Server,
  address: ListenAddress,
  exportName = '',
): Promise<BoundAddress> {
  const name = uriPart(exportName);
  switch (address.kind) {
    case 'unix': {
      await listenUnix(server, address.path);
      const socket = address.path.split('/').map(uriPart).join('/');
      return { uri: `nbd+unix:///${name}?socket=${socket}` };
    }
    case 'tcp': {
      const place = await listenTcp(server, address);
      return { uri: `nbd://${place}${name === '' ? '' : `/${name}`}` };
    }
  }
}

async function listenUnix(server: Server, path: string): Promise<void> {
  if (bytesOfText(path).byteLength > SOCKET_PATH_BYTES_MAX) {
    const rule = `a socket path has at most ${String(SOCKET_PATH_BYTES_MAX)} bytes: use a shorter one`;
    throw new Qcow2BenchError('nbd-listen-failed', rule, { path });
  }
  switch (describeSocketFile(path)) {
    case 'other':
      throw new Qcow2BenchError('not-a-socket', 'the path exists and is not a socket: name another path', {
        path,
      });
    case 'socket':
      await removeIfStale(path);
      break;
    case 'missing':
      break;
  }
  if (path.isWellFormed()) await listen(server, { path }, path);
  else await listenOnBytes(server, path);
}

/**
 * Node takes the path of a socket for UTF-8: this one is bound under a name that is, and then given
 * its own.
 */
async function listenOnBytes(server: Server, path: string): Promise<void> {
  const socket = new BindableSocket(path);
  try {
    await listen(server, { path: socket.bindPath }, path);
  } catch (error) {
    socket.remove();
    throw error;
  }
  server.once('close', () => socket.remove());
  socket.giveName();
}

/** A killed server leaves its socket file behind, without a listener. */
async function removeIfStale(path: string): Promise<void> {
  if (await answers(path)) {
    throw new Qcow2BenchError(
      'socket-in-use',
      'another server is listening here: stop it, or name another path',
      {
        path,
      },
    );
  }
  removeSocketFile(path);
}

async function answers(path: string): Promise<boolean> {
  using reachable = new ReachableSocket(path);
  return await new Promise((resolve, reject) => {
    const socket = connect(reachable.path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      const code = systemCode(error);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve(false);
      else reject(listenFailed(path, error));
    });
  });
}

/** Answers the address and port that clients connect to. */
async function listenTcp(
  server: Server,
  { host, port, allowRemote }: Extract<ListenAddress, { readonly kind: 'tcp' }>,
): Promise<string> {
  const address = await addressOf(host);
  if (!allowRemote && !isLoopback(address)) {
    throw new Qcow2BenchError(
      'nbd-not-loopback',
      `other machines can reach ${host}, and NBD has no authentication: use 127.0.0.1, or allow it with --allow-remote`,
    );
  }
  const place = `${address.includes(':') ? `[${address}]` : address}:${String(port)}`;
  await listen(server, { host: address, port }, place);
  const bound = server.address();
  const boundPort = bound === null || typeof bound === 'string' ? port : bound.port;
  return `${address.includes(':') ? `[${address}]` : address}:${String(boundPort)}`;
}

/** The address behind a name, asked for once, so that what is checked is what is listened on. */
async function addressOf(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw listenFailed(host, error);
  }
}

function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\./i.test(address);
}

function listen(server: Server, options: ListenOptions, place: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: Error): void => reject(listenFailed(place, error));
    server.once('error', refuse);
    server.listen({ ...options, exclusive: true }, () => {
      server.off('error', refuse);
      resolve();
    });
  });
}

/** These bytes as a part of a URI, percent-encoded. */
function uriPart(text: string): string {
  if (text.isWellFormed()) return encodeURIComponent(text);
  return [...bytesOfText(text)]
    .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
    .join('');
}
