/**
 * The numbers of the NBD protocol: magics, options, replies, commands, flags and errors, and what
 * this server bounds (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
 *
 * Invariant: everything on the wire is big-endian; 64-bit magics are two halves here.
 */

/** What the server says first, and what opens every option: two words each. */
export const MAGIC = {
  /** `NBDMAGIC` */
  greeting: [0x4e42444d, 0x41474943],
  /** `IHAVEOPT` */
  option: [0x49484156, 0x454f5054],
  optionReply: [0x0003e889, 0x045565a9],
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
} as const;

/** Flags of the greeting (16 bits) and of the client's answer to it (32 bits). */
export const HANDSHAKE_FLAG = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x8000_0001,
  errorPolicy: 0x8000_0002,
  errorInvalid: 0x8000_0003,
  errorUnknownExport: 0x8000_0006,
  errorTooBig: 0x8000_0009,
} as const;
export type OptionReply = (typeof OPTION_REPLY)[keyof typeof OPTION_REPLY];

export const INFO = { export: 0, blockSize: 3 } as const;

/** What an export can do: 16 bits, sent once. */
export const TRANSMISSION_FLAG = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
} as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const COMMAND_FLAG = { fua: 1 << 0, noHole: 1 << 1, df: 1 << 2, reqOne: 1 << 3 } as const;

export const CHUNK = { none: 0, offsetData: 1, blockStatus: 5, error: (1 << 15) + 1 } as const;
/** The flag of the last chunk of a structured reply. */
export const CHUNK_DONE = 1;

/** The error numbers of the protocol, which are Linux's whatever the machine. */
export const NBD_ERROR = { perm: 1, io: 5, noMemory: 12, invalid: 22, noSpace: 28 } as const;
export type NbdError = (typeof NBD_ERROR)[keyof typeof NBD_ERROR];

export const ALLOCATION_CONTEXT = { name: 'base:allocation', id: 1 } as const;
/** Bits of an extent in that context. */
export const ALLOCATION_FLAG = { hole: 1 << 0, zero: 1 << 1 } as const;

export const NBD_LIMITS = {
  /** Bytes of an option's data: room for a name of 4096 and a few queries. */
  optionBytes: 16 * 1024,
  /** Bytes that an export name may have. */
  nameBytes: 4096,
  /** Bytes of the data of one read or write. */
  transferBytes: 32 * 1024 * 1024,
  /** Requests of one connection that are being served at once. */
  requestsInFlight: 16,
  /** Extents in one answer about allocation. */
  extents: 1024,
  /** Clients that use the export at once. */
  users: 64,
  /** Those, and clients that are about to choose the export or have left it. */
  connections: 72,
  /** Options of one client; a real one sends fewer than ten. */
  options: 256,
  /**
   * From the connection to the choice of the export, and from the last request to the last reply
   * taken.
   */
  silenceMs: 10_000,
} as const;

const MIB = 1024 * 1024;

/**
 * With the kept buffers (8 MiB) and what each connection has received and not yet looked at (192
 * KiB), 64 clients that use the export and 8 others take at most 126 MiB, whatever they do.
 */
export const NBD_MEMORY = {
  reserveBytes: MIB,
  commonBytes: 40 * MIB,
  clientBytes: 8 * MIB,
  stallMs: 10_000,
} as const;

export const BLOCK_SIZE = {
  /** What every client may send: requests off the sectors are widened here (`byte-access.ts`). */
  minimumTaken: 1,
  /** The constraints for a client that asks for them, as in QEMU. */
  minimumTold: 512,
  preferred: 4096,
} as const;
