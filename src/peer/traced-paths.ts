/** Paths as strace prints them behind descriptors. */

/** What follows the last slash. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** A file that was removed while it was open has a mark behind its name. */
export function withoutDeleted(path: string): string {
  return path.replace(/ \(deleted\)$/, '');
}
