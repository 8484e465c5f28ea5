/** An error that the set-up cannot fix; the user sees only its message. */
export class SetupError extends Error {}
