import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { HubError, toHubError } from '../errors.ts';
import { isTask, type Task } from '../tasks/index.ts';

/** The tasks that modules export. Throws `invalid-argument` naming a module that is not there, falls, or has none. */
export async function loadTasks(paths: readonly string[], cwd: string = process.cwd()): Promise<Task[]> {
  const found: Task[] = [];
  for (const path of paths) {
    const file = resolve(cwd, path);
    const refuse = (why: string, cause?: unknown): never => {
      throw new HubError('invalid-argument', `tasks: ${path} ${why}`, { cause });
    };
    if (!existsSync(file)) refuse('is not there');
    try {
      const exported: unknown[] = Object.values((await import(pathToFileURL(file).href)) as object);
      const tasks = exported.flat().filter(isTask);
      if (tasks.length === 0) refuse('exports no task: export what defineTask returns');
      found.push(...tasks.filter((task) => !found.includes(task)));
    } catch (error) {
      if (error instanceof HubError && error.message.startsWith('tasks: ')) throw error;
      refuse(`cannot be loaded: ${toHubError(error).message}`, error);
    }
  }
  return found;
}
