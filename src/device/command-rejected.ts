/** Thrown by a handler that does not take a command: it ends as `rejected`, which says that nothing was done. */
export class CommandRejected extends Error {
  override readonly name = 'CommandRejected';
  /** A stable word for callers to branch on. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
