/** Something went wrong that the connection survived, or the cause of its end. */
export class PostriderError extends Error {
  override readonly name: string = 'PostriderError';
  /**
   * Stable, for programs: `token` (getToken failed), `storage` (positions could not be loaded or
   * saved), `bad_frame` (what came was no envelope), `listener` (one of yours threw), `too_long`
   * (an event stream cannot be asked for with so many topics), or the code of an `error` frame.
   */
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/**
 * Thrown by `getToken`: this user may not connect, and asking again will not help.
 * The connection ends (4403) instead of trying again.
 */
export class UnauthorizedError extends PostriderError {
  override readonly name = 'UnauthorizedError';

  constructor(message = 'getToken says that this user may not connect') {
    super('unauthorized', message);
  }
}

/** By name: an application may hold this package twice, as ESM and as CJS. */
export function isUnauthorized(error: unknown): error is Error {
  return error instanceof Error && error.name === 'UnauthorizedError';
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
