import type { Journal } from '../device/journal/journal.ts';
import { HubError } from '../errors.ts';
import type { CommandStore } from '../hub/command-store.ts';

/** Access to something that outlives a process, as one process has it: after its death nothing gets through. */
export interface Fenced<T> {
  readonly through: T;
  /** The process dies: its calls change nothing any more, and those under way are never answered. */
  die(): void;
}

/** A store as one hub process sees it. */
export function fencedStore(store: CommandStore): Fenced<CommandStore> {
  let isDead = false;
  const pass = <T>(call: () => Promise<T>): Promise<T> => {
    if (isDead) return Promise.reject(new HubError('unavailable', 'this hub was killed'));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    call().then(
      (value) => isDead || resolve(value),
      (error: unknown) => isDead || reject(error),
    );
    return promise;
  };
  return {
    through: {
      add: (command, options) => pass(() => store.add(command, options)),
      markSent: (...args) => pass(() => store.markSent(...args)),
      advance: (...args) => pass(() => store.advance(...args)),
      finish: (...args) => pass(() => store.finish(...args)),
      get: (id) => pass(() => store.get(id)),
      mailbox: (...args) => pass(() => store.mailbox(...args)),
      due: (...args) => pass(() => store.due(...args)),
      list: (filter) => pass(() => store.list(filter)),
      count: (...args) => pass(() => store.count(...args)),
      prune: (limits) => pass(() => store.prune(limits)),
      close: () => Promise.resolve(),
    },
    die: () => {
      isDead = true;
    },
  };
}

/** A journal as one boot of a device sees it. */
export function fencedJournal(journal: Journal): Fenced<Journal> {
  let isDead = false;
  const never = new Promise<void>(() => undefined);
  return {
    through: {
      id: journal.id,
      lookup: (commandId) => journal.lookup(commandId),
      begin: (commandId, options) => (isDead ? never : journal.begin(commandId, options)),
      finish: (commandId, result) => (isDead ? never : journal.finish(commandId, result)),
      unacknowledged: () => journal.unacknowledged(),
      retire: (commandIds) => (isDead ? undefined : journal.retire(commandIds)),
      close: () => Promise.resolve(),
    },
    die: () => {
      isDead = true;
    },
  };
}
