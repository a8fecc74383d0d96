/** How a process ended: `drained` after one signal, `forced` by a second one. */
export type SignalOutcome = 'drained' | 'forced';

/** npm hands a terminal's Ctrl-C on to a child that has had it already: that soon, it is the same one. */
const sameSignalMs = 500;

/**
 * Waits for SIGTERM or SIGINT, then closes what runs: it drains and ends within its own time. A second signal does not
 * wait for that. The caller sets the exit code.
 */
export async function runUntilSignal(
  server: { close(): Promise<void> },
  { onSignal = () => undefined }: { onSignal?: (signal: NodeJS.Signals) => void } = {},
): Promise<SignalOutcome> {
  const first = Promise.withResolvers<NodeJS.Signals>();
  const second = Promise.withResolvers<NodeJS.Signals>();
  let firstAt: number | undefined;
  const hear = (signal: NodeJS.Signals): void => {
    if (firstAt === undefined) {
      firstAt = performance.now();
      first.resolve(signal);
    } else if (performance.now() - firstAt >= sameSignalMs) second.resolve(signal);
  };
  process.on('SIGTERM', hear).on('SIGINT', hear);
  try {
    onSignal(await first.promise);
    return await Promise.race([
      server.close().then(() => 'drained' as const),
      second.promise.then(() => 'forced' as const),
    ]);
  } finally {
    process.off('SIGTERM', hear).off('SIGINT', hear);
  }
}
