import { monitorEventLoopDelay } from 'node:perf_hooks';

/**
 * For bounds in real time, which are promises: how long the machine has held this process up meanwhile, which is nobody's
 * fault. Three of its longest stalls may fall on one way that is measured: of who sends, of Redis, of who is told.
 */
export function stalls(): { readonly ms: number; [Symbol.dispose](): void } {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  return {
    get ms() {
      return (3 * delay.max) / 1e6;
    },
    [Symbol.dispose]: () => void delay.disable(),
  };
}
