// Tasks: the three steps, a random number, a text reversed, and a search that needs the CPU and has a thread for it.
import { defineTask } from 'signalbox/tasks';
import { z } from 'zod';

/** Starts, makes three steps with a checkpoint after each, and completes: after a crash it goes on where it was. */
export const threeSteps = defineTask({
  id: 'three-steps',
  input: z.object({ name: z.string().default('demo'), stepMs: z.number().min(0).max(60_000).default(20) }),
  retry: { attempts: 3 },
  async run({ name, stepMs }, ctx) {
    const done = (ctx.lastCheckpoint as number | undefined) ?? 0;
    ctx.log(done === 0 ? `${name} starts` : `${name} goes on after step ${done}`);
    for (let step = done + 1; step <= 3; step++) {
      await new Promise((resolve) => setTimeout(resolve, stepMs));
      ctx.signal.throwIfAborted();
      ctx.progress((step / 3) * 100, `step ${step}`, `step ${step} of 3 is done`);
      await ctx.checkpoint(step);
    }
    return { name, steps: 3 };
  },
});

export const randomNumber = defineTask({
  id: 'random-number',
  input: z
    .object({ min: z.int(), max: z.int() })
    .refine(({ min, max }) => min <= max, { message: 'min has to be at most max', path: ['min'] }),
  output: z.object({ number: z.int() }),
  run: ({ min, max }) => ({ number: min + Math.floor(Math.random() * (max - min + 1)) }),
});

export const reverseString = defineTask({
  id: 'reverse-string',
  input: z.object({ text: z.string().max(10_000) }),
  output: z.object({ text: z.string() }),
  // By code points, so that no emoji falls apart.
  run: ({ text }) => ({ text: [...text].reverse().join('') }),
});

/** Counts primes the slow way: in a thread, so that nothing else waits for it. */
export const countPrimes = defineTask({
  id: 'count-primes',
  input: z.object({ below: z.int().min(2).max(5_000_000) }),
  isolation: 'thread',
  module: import.meta.url,
  timeout: { attemptMs: 60_000 },
  run({ below }, ctx) {
    let primes = 0;
    for (let number = 2; number < below; number++) {
      let divisor = 2;
      while (divisor * divisor <= number && number % divisor !== 0) divisor++;
      if (divisor * divisor > number) primes++;
      if (number % 100_000 === 0) ctx.progress((number / below) * 100, 'counting');
    }
    return { primes };
  },
});
