/** What the set-up cannot mend by itself; its message is all that the user sees. */
export class SetupError extends Error {}
