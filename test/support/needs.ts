import { describe } from 'vitest';
import { debianTools } from '../../scripts/debian.ts';

/**
 * `describe` for tests that need something npm cannot bring. Where that is missing they are skipped, and the title says
 * why; with `CI=true` they run all the same and fail, so that nothing is ever left out silently.
 */
export function describeNeeding(tool: keyof typeof debianTools, title: string, tests: () => void): void {
  const { package: name, isThere } = debianTools[tool];
  if (isThere()) describe(title, tests);
  else if (process.env.CI === 'true') describe(`${title} (needs the Debian package ${name}, which is missing)`, tests);
  else describe.skip(`${title} (skipped: the Debian package ${name} is missing)`, tests);
}
