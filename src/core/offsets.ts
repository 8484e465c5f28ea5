/**
 * What a number in an image means, for the compiler: it refuses a guest offset where a host offset
 * is needed, and an offset where the index of a cluster is. At run time they are numbers.
 *
 * A plain number is accepted for each of them, so that arithmetic needs no cast. Its result is a
 * plain number: give it its type where it gets a name.
 */

declare const KIND: unique symbol;

interface OfKind<Name extends string> {
  readonly [KIND]?: Name | undefined;
}

/** Bytes from the start of the guest's disk. */
export type GuestOffset = number & OfKind<'guest-offset'>;

/** Bytes from the start of a file that belongs to the image. */
export type HostOffset = number & OfKind<'host-offset'>;

/** Index of a cluster of the image file: its host offset divided by the cluster size. */
export type HostCluster = number & OfKind<'host-cluster'>;
