import { hasScope, requireScope } from '../../auth/access.ts';
import type { Principal } from '../../auth/principal.ts';
import { HubError } from '../../errors.ts';
import type { Run } from '../../tasks/index.ts';
import type { GatewayTasks } from '../options.ts';
import type { AskedForStream } from '../sse/answer.ts';

/** With `tasks:read` all runs of the tenant can be seen, with `tasks:run` one's own. */
export function maySeeRun(principal: Principal, run: Run): boolean {
  return hasScope(principal, 'tasks:read') || (hasScope(principal, 'tasks:run') && run.owner === principal.subject);
}

/** The run, if the principal may see it: another one's is not there. Throws `not-found`, `permission-denied`. */
export async function visibleRun(
  tasks: GatewayTasks,
  principal: AskedForStream['principal'],
  id: string,
): Promise<Run> {
  if (!hasScope(principal, 'tasks:read')) requireScope(principal, 'tasks:run');
  const run = await tasks.snapshot(id, principal.tenant);
  if (!maySeeRun(principal, run)) throw new HubError('not-found', `there is no run "${id}"`);
  return run;
}

/** Throws `permission-denied` unless the run is the principal's own, or the principal an administrator. */
export function requireOwnRun(principal: Principal, run: Run): void {
  requireScope(principal, 'tasks:run');
  if (principal.scopes.has('admin') || run.owner === principal.subject) return;
  throw new HubError('permission-denied', `run ${run.id} is not of "${principal.subject}"`);
}
