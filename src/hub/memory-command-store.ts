import { HubError } from '../errors.ts';
import {
  type Command,
  type CommandState,
  type CommandUpdate,
  isTerminal,
  isTerminalUpdate,
  type TerminalUpdate,
} from '../protocol/command.ts';
import {
  type AddOptions,
  type AddOutcome,
  type CommandFilter,
  type CommandOwner,
  type CommandStore,
  FencedError,
  type Hold,
  type SentMark,
  type StoredCommand,
  type WriteOptions,
} from './command-store.ts';
import { isSameContent, isStateAhead, mailboxFull, supersededBy, takenMessage } from './stored-command.ts';

/** Keeps queued commands for as long as the process lives: for libraries and tests, and as the model of the others. */
export function memoryCommandStore(options: MemoryCommandStoreOptions = {}): CommandStore {
  return new MemoryCommandStore(options);
}

export interface MemoryCommandStoreOptions {
  /** Who holds a client now, where several hubs of this process share the store. Default: every `hold` is ignored. */
  readonly holderOf?: ((owner: CommandOwner) => Hold | undefined) | undefined;
}

interface Mailbox {
  /** Commands that are not terminal, by position. */
  readonly pending: Map<string, StoredCommand>;
  bytes: number;
}

class MemoryCommandStore implements CommandStore {
  /** All commands in the order of their positions. */
  readonly #commands = new Map<string, StoredCommand>();
  readonly #mailboxes = new Map<string, Mailbox>();
  readonly #idByKey = new Map<string, string>();
  #position = 0;
  #pendingCount = 0;
  readonly #holderOf: MemoryCommandStoreOptions['holderOf'];
  #isClosed = false;

  constructor({ holderOf }: MemoryCommandStoreOptions) {
    this.#holderOf = holderOf;
  }

  async add(command: Command, options: AddOptions): Promise<AddOutcome> {
    this.#checkOpen();
    const { hold } = options;
    const holder = hold && this.#holderOf?.(command);
    if (this.#holderOf && hold && (hold === 'nobody' ? holder : !isSameHold(hold, holder)))
      return { kind: 'wrong-node', holder };
    const known = this.#findKnown(command);
    if (known) {
      return isSameContent(known.command, command)
        ? { kind: 'existing', stored: known }
        : { kind: 'conflict', message: takenMessage(command, known.command) };
    }
    const owner = ownerOf(command.tenant, command.clientId);
    const mailbox = this.#mailboxes.get(owner) ?? { pending: new Map(), bytes: 0 };
    const replaced = this.#replacedBy(command, options, mailbox);
    let commands = mailbox.pending.size - replaced.length + 1;
    let bytes = mailbox.bytes + command.payload.value.byteLength;
    for (const old of replaced) bytes -= old.command.payload.value.byteLength;
    if (commands > options.maxCommands || bytes > options.maxBytes)
      return { kind: 'full', message: mailboxFull(command, --commands, bytes, options) };

    const superseded = replaced.map((old) => this.#end(old, supersededBy(old.command, command, options.nowMs)));
    const stored: StoredCommand = {
      command,
      position: ++this.#position,
      acceptedAtMs: options.nowMs,
      dueAtMs: options.dueAtMs,
      sentToJournal: options.sentToJournal,
      last: { commandId: command.id, clientId: command.clientId, atMs: options.nowMs, state: 'queued' },
    };
    this.#commands.set(command.id, stored);
    if (command.idempotencyKey) this.#idByKey.set(keyOf(command), command.id);
    mailbox.pending.set(command.id, stored);
    mailbox.bytes += command.payload.value.byteLength;
    this.#mailboxes.set(owner, mailbox);
    this.#pendingCount++;
    return { kind: 'stored', stored, superseded };
  }

  async markSent(marks: readonly SentMark[], journal: string, options?: WriteOptions): Promise<void> {
    this.#checkOpen();
    for (const { id, dueAtMs } of marks) {
      const stored = this.#commands.get(id);
      if (stored) this.#checkHold(stored.command, options);
      if (stored && !isTerminal(stored.last.state)) this.#replace({ ...stored, sentToJournal: journal, dueAtMs });
    }
  }

  async advance(id: string, state: CommandState, atMs: number, options?: WriteOptions): Promise<void> {
    this.#checkOpen();
    const stored = this.#commands.get(id);
    if (stored) this.#checkHold(stored.command, options);
    if (!stored || isTerminal(state) || !isStateAhead(stored.last.state, state)) return;
    const { clientId } = stored.command;
    const last: CommandUpdate =
      state === 'progress'
        ? { commandId: id, clientId, atMs, state, progress: {} }
        : { commandId: id, clientId, atMs, state };
    this.#replace({ ...stored, last });
  }

  async finish(update: TerminalUpdate, options?: WriteOptions): Promise<TerminalUpdate> {
    this.#checkOpen();
    const stored = this.#commands.get(update.commandId);
    if (!stored) throw new HubError('not-found', `no stored command ${update.commandId}`);
    this.#checkHold(stored.command, options);
    if (isTerminalUpdate(stored.last)) return stored.last;
    this.#end(stored, update);
    return update;
  }

  async get(id: string): Promise<StoredCommand | undefined> {
    this.#checkOpen();
    return this.#commands.get(id);
  }

  async mailbox(tenant: string, clientId: string, after: number, limit: number): Promise<StoredCommand[]> {
    this.#checkOpen();
    const found: StoredCommand[] = [];
    for (const stored of this.#mailboxes.get(ownerOf(tenant, clientId))?.pending.values() ?? []) {
      if (found.length >= limit) break;
      if (stored.position > after) found.push(stored);
    }
    return found;
  }

  async due(nowMs: number, limit: number): Promise<StoredCommand[]> {
    this.#checkOpen();
    const found: StoredCommand[] = [];
    for (const mailbox of this.#mailboxes.values())
      for (const stored of mailbox.pending.values()) if (stored.dueAtMs <= nowMs) found.push(stored);
    return found.sort((a, b) => a.dueAtMs - b.dueAtMs || a.position - b.position).slice(0, limit);
  }

  async list(filter: CommandFilter): Promise<StoredCommand[]> {
    this.#checkOpen();
    const source =
      filter.pendingOnly && filter.clientId !== undefined
        ? (this.#mailboxes.get(ownerOf(filter.tenant, filter.clientId))?.pending ?? new Map<string, StoredCommand>())
        : this.#commands;
    const found: StoredCommand[] = [];
    for (const stored of source.values()) {
      if (stored.command.tenant !== filter.tenant) continue;
      if (filter.clientId !== undefined && stored.command.clientId !== filter.clientId) continue;
      if (filter.pendingOnly && isTerminal(stored.last.state)) continue;
      found.push(stored);
    }
    return found.sort((a, b) => b.position - a.position).slice(0, filter.limit);
  }

  async count(tenant?: string, clientId?: string): Promise<number> {
    this.#checkOpen();
    if (tenant === undefined) return this.#pendingCount;
    if (clientId !== undefined) return this.#mailboxes.get(ownerOf(tenant, clientId))?.pending.size ?? 0;
    let count = 0;
    for (const [owner, mailbox] of this.#mailboxes) if (owner.startsWith(`${tenant}/`)) count += mailbox.pending.size;
    return count;
  }

  async prune(limits: { readonly endedBeforeMs: number; readonly maxEnded: number }): Promise<number> {
    this.#checkOpen();
    const ended = [...this.#commands.values()].filter((stored) => isTerminal(stored.last.state));
    ended.sort((a, b) => b.last.atMs - a.last.atMs || b.position - a.position);
    const forgotten = ended.filter((stored, i) => i >= limits.maxEnded || stored.last.atMs < limits.endedBeforeMs);
    for (const { command } of forgotten) {
      this.#commands.delete(command.id);
      if (command.idempotencyKey) this.#idByKey.delete(keyOf(command));
    }
    return forgotten.length;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new HubError('unavailable', 'the command store is closed');
  }

  #checkHold(owner: CommandOwner, { hold }: WriteOptions = {}): void {
    if (!hold || !this.#holderOf) return;
    const holder = this.#holderOf(owner);
    if (hold === 'nobody' ? holder : !isSameHold(hold, holder)) throw new FencedError(owner, hold, holder);
  }

  #findKnown(command: Command): StoredCommand | undefined {
    const byId = this.#commands.get(command.id);
    if (byId || !command.idempotencyKey) return byId;
    const id = this.#idByKey.get(keyOf(command));
    return id === undefined ? undefined : this.#commands.get(id);
  }

  #replacedBy(command: Command, { supersede }: AddOptions, mailbox: Mailbox): StoredCommand[] {
    if (!command.coalesceKey || !supersede) return [];
    const ids = new Set(supersede.ids);
    return [...mailbox.pending.values()].filter(
      (old) =>
        old.command.coalesceKey === command.coalesceKey &&
        (ids.has(old.command.id) || (old.position > supersede.afterPosition && old.sentToJournal === undefined)),
    );
  }

  #replace(stored: StoredCommand): void {
    const { id, tenant, clientId } = stored.command;
    this.#commands.set(id, stored);
    this.#mailboxes.get(ownerOf(tenant, clientId))?.pending.set(id, stored);
  }

  #end(stored: StoredCommand, last: TerminalUpdate): StoredCommand {
    const ended = { ...stored, last };
    const { id, tenant, clientId, payload } = stored.command;
    this.#commands.set(id, ended);
    const owner = ownerOf(tenant, clientId);
    const mailbox = this.#mailboxes.get(owner);
    if (mailbox?.pending.delete(id)) {
      mailbox.bytes -= payload.value.byteLength;
      this.#pendingCount--;
      if (mailbox.pending.size === 0) this.#mailboxes.delete(owner);
    }
    return ended;
  }
}

const isSameHold = (a: Hold, b: Hold | undefined): boolean => a.instance === b?.instance && a.epoch === b.epoch;
const ownerOf = (tenant: string, clientId: string): string => `${tenant}/${clientId}`;
const keyOf = (command: Command): string => `${command.tenant}/${command.clientId}/${command.idempotencyKey}`;
