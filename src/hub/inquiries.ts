import { HubError } from '../errors.ts';
import { within } from '../flow/within.ts';
import type { CommandRecord, CommandUpdate } from '../protocol/command.ts';
import type { ClientTable } from './client-table.ts';
import { type CommandLife, recordOf } from './command-life.ts';
import type { CommandFilter } from './command-store.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import { isStray } from './stray-command.ts';
import { UpdateStream } from './update-stream.ts';

/** The end of a stored command that is cancelled has to be on disk within this many ms. */
const cancelWithinMs = 5000;

/** Answers who asks for a command by its id: from memory, from the store, or from what its device has begun. */
export class Inquiries {
  readonly #settings: Settings;
  readonly #life: CommandLife;
  readonly #directory: ClientTable;

  constructor(settings: Settings, life: CommandLife, directory: ClientTable) {
    this.#settings = settings;
    this.#life = life;
    this.#directory = directory;
  }

  watch(
    tenant: string,
    commandId: string,
    { signal, clientId }: { signal?: AbortSignal | undefined; clientId?: string | undefined },
  ): UpdateStream {
    const stream = new UpdateStream(this.#settings.unreadUpdates);
    stream.endWith(signal, () => stream.end());
    this.#find(tenant, commandId, clientId).then(
      (pending) => pending.attach(stream, () => this.#life.shelve(pending)),
      (error: unknown) => stream.fail(error),
    );
    return stream;
  }

  async get(tenant: string, commandId: string, clientId: string | undefined): Promise<CommandRecord> {
    const pending = await this.#find(tenant, commandId, clientId);
    this.#life.putBack(pending);
    return recordOf(pending);
  }

  /** Newest first: those in memory and those in the store. */
  async list(filter: CommandFilter): Promise<CommandRecord[]> {
    const records = new Map<string, CommandRecord>();
    for (const stored of (await this.#settings.commands?.list(filter)) ?? [])
      records.set(stored.command.id, recordOf(stored));
    for (const pending of this.#life.registry) {
      const { command } = pending;
      if (command.tenant !== filter.tenant || (filter.clientId !== undefined && command.clientId !== filter.clientId))
        continue;
      if (filter.pendingOnly && pending.hasEnded) continue;
      if (isStray(pending) && filter.clientId === undefined) continue;
      records.set(command.id, recordOf(pending));
    }
    return [...records.values()].sort((a, b) => b.acceptedAtMs - a.acceptedAtMs).slice(0, filter.limit);
  }

  async cancel(
    tenant: string,
    commandId: string,
    reason: string,
    clientId: string | undefined,
  ): Promise<CommandUpdate> {
    const pending = await this.#find(tenant, commandId, clientId);
    if (pending.hasEnded) return pending.last;
    const client = this.#directory.get(tenant, pending.command.clientId);
    const mayHaveBeenSent =
      pending.place === 'in-flight' || (pending.place === 'shelf' && pending.journal !== undefined);
    if (mayHaveBeenSent || pending.isEnding) {
      if (pending.cancelReason === undefined) {
        pending.cancelReason = reason;
        if (pending.place === 'in-flight') client?.cancel(pending, reason);
      }
      return pending.last;
    }
    const ended = this.#life.endWith(pending, 'cancelled', { code: 'cancelled', message: reason });
    if (ended && !(await within(this.#settings.clock, ended, cancelWithinMs)))
      throw new HubError('unavailable', `the cancel of command ${commandId} could not be stored yet`, {
        commandId,
        retryAfterMs: 1000,
      });
    return pending.last;
  }

  /** Throws `not-found`. */
  async #find(tenant: string, commandId: string, clientId: string | undefined): Promise<PendingCommand> {
    const known = this.#life.registry.get(commandId) ?? (await this.recallFromStore(commandId));
    const pending = known ?? this.#strayOf(tenant, commandId, clientId);
    const isHidden = pending !== undefined && isStray(pending) && pending.command.clientId !== clientId;
    if (pending?.command.tenant === tenant && !isHidden) return pending;
    throw new HubError('not-found', `command ${JSON.stringify(commandId.slice(0, 64))} is not known`);
  }

  /** What its client has begun, and another hub had sent. */
  #strayOf(tenant: string, commandId: string, clientId: string | undefined): PendingCommand | undefined {
    const client = clientId === undefined ? undefined : this.#directory.get(tenant, clientId);
    const { session } = client ?? {};
    return client && session?.begun.has(commandId)
      ? (this.#life.registry.get(commandId) ?? this.#life.stray(commandId, client, session.journalId))
      : undefined;
  }

  /** A command that only the store may know. */
  async recallFromStore(commandId: string): Promise<PendingCommand | undefined> {
    const stored = await this.#settings.commands?.get(commandId);
    if (!stored) return undefined;
    const pending = this.#life.recall(stored);
    // Whoever asks learns that it is accepted: what is accepted from now on stays behind it.
    this.#directory.get(stored.command.tenant, stored.command.clientId)?.foundStored(pending);
    return pending;
  }
}
