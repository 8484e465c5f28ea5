/**
 * Sizes, limits and places of the format (`docs/btree-format.md`): all integers are little-endian,
 * all places in the file are numbers of blocks.
 */

/** Bytes of a block: the unit of the tree's keys, of host space and of superblocks. */
export const BLOCK_SIZE = 4096;

export const NODE_SIZE_MIN = 4096;
export const NODE_SIZE_MAX = 65_536;

/** Superblocks are the first blocks of the file. */
export const SUPERBLOCKS = 2;

/** Levels of a tree, leaves included. */
export const LEVELS_MAX = 8;

/** Bytes of a disk. */
export const VIRTUAL_SIZE_MAX = 2 ** 43;

/** Blocks of a file: numbers of blocks have 32 bits. */
export const HOST_BLOCKS_MAX = 2 ** 32;

/** Blocks of the journal: records that fit between two commits of the tree. */
export const JOURNAL_BLOCKS = 64;
export const JOURNAL_BLOCKS_MAX = 4096;

/** What an extent has in place of a host block where it reads as zeroes: a superblock is there. */
export const ZERO_EXTENT = 0;
/** In place of a host block, for a range that is taken out of the tree. */
export const NO_EXTENT = 0xffff_ffff;
