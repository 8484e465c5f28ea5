/** How a flush makes the tree durable, as it is chosen when an image is opened. */

export const COMMIT_POLICIES = ['two-sync', 'one-sync', 'journal'] as const;
export type CommitPolicy = (typeof COMMIT_POLICIES)[number];

export const DEFAULT_COMMIT_POLICY: CommitPolicy = 'two-sync';
