/** How a process ended: `drained` after one signal, `forced` by a second one. */
export type SignalOutcome = 'drained' | 'forced';

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
  const hear = (signal: NodeJS.Signals): void => {
    first.resolve(signal);
    // Resolving it again changes nothing, so only a later signal reaches the second one.
    if (heard++ > 0) second.resolve(signal);
  };
  let heard = 0;
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
