/** What can be wrong with a crash state; a closed vocabulary, as reports and files have it. */

/** When a state is looked at. */
export const MOMENTS = ['before-repair', 'after-repair', 'after-writes'] as const;
export type Moment = (typeof MOMENTS)[number];

export const FINDING_KINDS = [
  /** The image cannot be opened, or its tables cannot be read, before any repair. */
  'unreadable',
  /** It cannot be opened for writing, or the repair fails. */
  'not-opened-for-writing',
  /** A check finds corruptions once it is open for writing, and so repaired. */
  'corrupt-after-repair',
  /** A check finds no other corruption than copied flags that lag behind refcounts that are too high. */
  'stale-copied-flags',
  /** A repaired image still has leaks. */
  'leaks-after-repair',
  /** A write, a flush or the close fails afterwards. */
  'write-fails',
  /** A check finds corruptions after further writes and a clean close. */
  'corrupt-after-writes',
  /** A sector holds neither what it was promised to keep nor what was being written to it. */
  'wrong-data',
  /** A snapshot is missing, or does not hold what the disk held when it was taken. */
  'wrong-snapshot',
  /** The disk has a size that it was not given. */
  'wrong-size',
  /** QEMU, as a second judge, finds something wrong that the engines do not. */
  'qemu-disagrees',
] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

export interface Finding {
  readonly kind: FindingKind;
  readonly moment: Moment;
  /** In words. */
  readonly text: string;
  /** Of wrong data: the snapshot that holds it, if it is not the disk. */
  readonly snapshot?: string | undefined;
  readonly sector?: number | undefined;
  /** What is there. */
  readonly token?: number | undefined;
}
