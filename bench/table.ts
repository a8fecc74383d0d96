import type { Figure } from './harness.ts';

/** Figures as lines for people: one metric a line, each yardstick with its value and the ratio to it. */
export function table(figures: readonly Figure[]): string {
  const byMetric = Map.groupBy(figures, ({ metric }) => metric);
  const width = Math.max(0, ...[...byMetric.keys()].map((metric) => metric.length));
  return [...byMetric]
    .map(([metric, [first, ...others]]) => {
      const { value, unit } = first!;
      const beside = [first!, ...others].flatMap(({ yardstick, yardstickValue, ratio }) =>
        yardstick === null
          ? []
          : [`${yardstick} ${short(yardstickValue!)}${ratio === null ? '' : ` (${ratio.toFixed(2)}x)`}`],
      );
      return `  ${metric.padEnd(width)}  ${short(value).padStart(8)} ${unit.padEnd(4)}  ${beside.join(', ')}`.trimEnd();
    })
    .join('\n');
}

function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return value.toPrecision(3);
}
