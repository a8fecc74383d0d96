/**
 * Keeps the process from ending until the returned function is called. A device between two attempts to connect has
 * no socket open, and the timers of our clock let a process go.
 */
export function keepAlive(): () => void {
  const { port1 } = new MessageChannel();
  port1.ref();
  return () => port1.close();
}
