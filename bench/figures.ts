import type { Figure } from './harness.ts';

/** One figure for each yardstick, each a line of `--json`; a single one with nulls where there is none. */
export function figuresOf(
  bench: string,
  metric: string,
  unit: string,
  value: number,
  yardsticks: Readonly<Record<string, number>> = {},
): Figure[] {
  const common = { bench, metric, value, unit };
  const all = Object.entries(yardsticks);
  if (all.length === 0) return [{ ...common, yardstick: null, yardstickValue: null, ratio: null }];
  // By nothing nothing can be divided, and JSON knows no infinity.
  return all.map(([yardstick, yardstickValue]) => ({
    ...common,
    yardstick,
    yardstickValue,
    ratio: yardstickValue === 0 ? null : value / yardstickValue,
  }));
}
