import { randomInt } from 'node:crypto';
import { HubError } from '../errors.ts';
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
} from '../hub/command-store.ts';
import { isSameContent, mailboxFull, supersededBy, takenMessage } from '../hub/stored-command.ts';
import type { Command, CommandState, TerminalUpdate } from '../protocol/command.ts';
import { stateToProto } from '../protocol/convert.ts';
import type { Argument, RedisConnection } from './connection.ts';
import { shardOf, shardPrefix, shards } from './keys.ts';
import type { Reply, ScriptQueue } from './script-queue.ts';
import { commandBytes, endBytes, endFrom, storedFrom, storedWith } from './stored-bytes.ts';

/** Members that are read of one shard in one go. */
const slice = 256;
const everyShard = Array.from({ length: shards }, (_, shard) => shard);

/**
 * Keeps queued commands in Redis. A promise that resolves means: as durable as the Redis behind `queue` makes it. Every
 * write is one operation of the script, recognised when it is repeated. `close` belongs to the connection's owner.
 */
export class RedisCommandStore implements CommandStore {
  readonly #connection: RedisConnection;
  readonly #queue: ScriptQueue;
  /** By client: settled once the newest command of it may be stored. */
  readonly #turns = new Map<string, Promise<void>>();

  constructor(connection: RedisConnection, queue: ScriptQueue) {
    this.#connection = connection;
    this.#queue = queue;
  }

  async add(command: Command, options: AddOptions): Promise<AddOutcome> {
    return this.#queue.isCluster
      ? this.#addToCluster(command, options)
      : this.#add(command, options, newToken(), false);
  }

  async markSent(marks: readonly SentMark[], journal: string, { owner, hold }: WriteOptions = {}): Promise<void> {
    if (owner) return this.#markSent(marks, journal, owner, hold);
    // Marks without an owner may be of several clients.
    for (const mark of marks) {
      const found = await this.#ownerOf(mark.id);
      if (found) await this.#markSent([mark], journal, found, hold);
    }
  }

  async advance(id: string, state: CommandState, atMs: number, options: WriteOptions = {}): Promise<void> {
    const owner = options.owner ?? (await this.#ownerOf(id));
    if (!owner) return;
    const code = stateToProto(state);
    // Ends come by `finish`, which has something to say about them.
    if (code >= stateToProto('succeeded')) return;
    const reply = await this.#call(owner, 'advance', [id, code, atMs, ...holdArguments(options.hold)]);
    checkHold(reply, owner, options.hold);
  }

  async finish(update: TerminalUpdate, options: WriteOptions = {}): Promise<TerminalUpdate> {
    const { commandId: id, clientId, state, atMs } = update;
    const owner = options.owner ?? (await this.#ownerOf(id));
    if (!owner) throw unknown(id);
    const tail = endBytes(update);
    const args = [id, stateToProto(state), atMs, tail, ...holdArguments(options.hold)];
    const reply = await this.#call(owner, 'finish', args, tail.length + 256);
    checkHold(reply, owner, options.hold);
    const [word, standing] = reply as [Buffer, Buffer];
    if (String(word) === 'none') throw unknown(id);
    return String(word) === 'was' ? endFrom(id, clientId, standing) : update;
  }

  async get(id: string): Promise<StoredCommand | undefined> {
    const owner = await this.#ownerOf(id);
    return owner && this.#get(owner, id);
  }

  async mailbox(tenant: string, clientId: string, after: number, limit: number): Promise<StoredCommand[]> {
    const owner = { tenant, clientId };
    return storedIn(owner, await this.#call(owner, 'box', [after, limit]));
  }

  async due(nowMs: number, limit: number): Promise<StoredCommand[]> {
    const found = (await this.#scored('upto', ['due', nowMs, Math.min(limit, slice)])).flatMap(
      ({ members }) => members,
    );
    found.sort((a, b) => a.score - b.score);
    return this.#fetch(found.slice(0, limit).map(({ member }) => partsOf(member)));
  }

  async list({ tenant, clientId, pendingOnly, limit }: CommandFilter): Promise<StoredCommand[]> {
    if (clientId !== undefined) {
      const owner = { tenant, clientId };
      const key = `${pendingOnly ? 'm' : 'l'}:${tenant}/${clientId}`;
      const members = scoredIn(await this.#queue.call(shardOfOwner(owner), 'newest', [key, limit]));
      return this.#fetch(members.map(({ member }) => ({ owner, id: member })));
    }
    const found = (await this.#scored('newest', [`${pendingOnly ? 'p' : 'a'}:${tenant}`, limit])).flatMap(
      ({ members }) => members,
    );
    found.sort((a, b) => b.score - a.score);
    return this.#fetch(found.slice(0, limit).map(({ member }) => partsOf(`${tenant}/${member}`)));
  }

  async count(tenant?: string, clientId?: string): Promise<number> {
    if (tenant !== undefined && clientId !== undefined)
      return Number(await this.#queue.call(shardOfOwner({ tenant, clientId }), 'count', [`m:${tenant}/${clientId}`]));
    const key = tenant === undefined ? 'due' : `p:${tenant}`;
    const counts = await Promise.all(everyShard.map((shard) => this.#queue.call(shard, 'count', [key])));
    return counts.reduce<number>((sum, count) => sum + Number(count), 0);
  }

  async prune({ endedBeforeMs, maxEnded }: { endedBeforeMs: number; maxEnded: number }): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const ended = await this.#scored('upto', ['ended', '+inf', slice]);
      const excess = ended.reduce((sum, { count }) => sum + count, 0) - maxEnded;
      // Beyond what was read of a shard there may be older ones than in the next.
      const horizon = Math.min(
        ...ended.map(({ count, members }) => (count > slice ? members.at(-1)!.score : Infinity)),
      );
      const oldest = ended.flatMap(({ members }) => members).filter(({ score }) => score <= horizon);
      oldest.sort((a, b) => a.score - b.score);
      const gone = oldest.filter(({ score }, i) => i < excess || score < endedBeforeMs);
      if (gone.length === 0) return forgotten;
      const counts = await Promise.all(gone.map(({ member }) => this.#forget(partsOf(member))));
      forgotten += counts.reduce((sum, count) => sum + count, 0);
    }
  }

  async close(): Promise<void> {
    // The connection is shared with others; its owner closes it.
  }

  async #add(command: Command, options: AddOptions, token: number, mayTake: boolean): Promise<AddOutcome> {
    const { tenant, clientId, id, payload } = command;
    const { hold, supersede } = options;
    const bytes = commandBytes(command);
    const canReplace = command.coalesceKey !== undefined && supersede !== undefined;
    const args: Argument[] = [
      id,
      bytes,
      payload.value.byteLength,
      command.idempotencyKey ?? '',
      command.coalesceKey ?? '',
      options.nowMs,
      scoreOf(options.dueAtMs),
      options.sentToJournal ?? '',
      ...holdArguments(hold),
      options.maxCommands,
      options.maxBytes,
      token,
      canReplace ? supersede.afterPosition : '',
      canReplace ? supersede.ids.join(',') : '',
      canReplace ? endBytes(supersededBy(command, command, options.nowMs)) : '',
      this.#queue.isCluster ? '' : shardOf(id),
      mayTake ? 1 : 0,
    ];
    const reply = (await this.#call(command, 'add', args, bytes.length + 512)) as [Buffer, ...Reply[]];
    switch (String(reply[0])) {
      case 'stored':
        return {
          kind: 'stored',
          stored: storedWith(command, reply[1] as Buffer),
          superseded: storedIn(command, reply[2]!),
        };
      case 'existing': {
        const stored = storedFrom({ tenant, clientId }, reply[2] as Buffer, reply[3] as Buffer);
        return existing(command, stored);
      }
      case 'wrong-node':
        return { kind: 'wrong-node', holder: holderIn(reply) };
      case 'full':
        return { kind: 'full', message: mailboxFull(command, Number(reply[1]), Number(reply[2]), options) };
      case 'taken': {
        const known = await this.#get(partsOf(`${reply[1]}/${id}`).owner, id);
        // Its name may be left over from a command that is forgotten.
        return known ? existing(command, known) : this.#add(command, options, token, true);
      }
      default:
        throw new HubError('internal', `the script in Redis answered "${reply[0]}" to add`);
    }
  }

  /** Names are reserved side by side, but commands of one client are stored in the order in which they came. */
  async #addToCluster(command: Command, options: AddOptions): Promise<AddOutcome> {
    const client = `${command.tenant}/${command.clientId}`;
    const before = this.#turns.get(client);
    const reserved = this.#reserve(command);
    const turn = Promise.allSettled([before, reserved]).then(() => undefined);
    this.#turns.set(client, turn);
    await turn;
    if (this.#turns.get(client) === turn) this.#turns.delete(client);
    const taken = await reserved;
    if (typeof taken === 'object') return taken;
    const outcome = await this.#add(command, options, newToken(), false);
    if (taken && outcome.kind !== 'stored' && outcome.kind !== 'existing')
      await this.#connection.call('DEL', [this.#idKey(command.id)]);
    return outcome;
  }

  /**
   * In a cluster the name of a command lives apart from the command. True: it is reserved now; false: it was, for this
   * client. Else what is in the way.
   */
  async #reserve(command: Command): Promise<boolean | AddOutcome> {
    const key = this.#idKey(command.id);
    const owner = `${command.tenant}/${command.clientId}`;
    const found = (await this.#connection.call('SET', [key, owner, 'NX', 'GET'])) as Buffer | null;
    if (found === null) return true;
    if (String(found) === owner) return false;
    const known = await this.#get(partsOf(`${found}/${command.id}`).owner, command.id);
    if (known) return existing(command, known);
    // Left over from a command that is forgotten.
    await this.#connection.call('SET', [key, owner]);
    return true;
  }

  async #markSent(marks: readonly SentMark[], journal: string, owner: CommandOwner, hold: AnyHold) {
    const args: Argument[] = [journal, ...holdArguments(hold), marks.length];
    for (const { id, dueAtMs } of marks) args.push(id, scoreOf(dueAtMs));
    checkHold(await this.#call(owner, 'sent', args, 64 * (marks.length + 4)), owner, hold);
  }

  async #get(owner: CommandOwner, id: string): Promise<StoredCommand | undefined> {
    return storedIn(owner, await this.#call(owner, 'get', [id]))[0];
  }

  async #fetch(commands: readonly { owner: CommandOwner; id: string }[]): Promise<StoredCommand[]> {
    const found = await Promise.all(commands.map(({ owner, id }) => this.#get(owner, id)));
    return found.filter((stored) => stored !== undefined);
  }

  async #forget({ owner, id }: { owner: CommandOwner; id: string }): Promise<number> {
    // Its name goes first: if this breaks off in between, the command is found again by the next prune.
    if (this.#queue.isCluster) await this.#connection.call('DEL', [this.#idKey(id)]);
    return Number(await this.#call(owner, 'forget', [id, this.#queue.isCluster ? '' : shardOf(id)]));
  }

  async #ownerOf(id: string): Promise<CommandOwner | undefined> {
    const found = (await this.#connection.call('GET', [this.#idKey(id)])) as Buffer | null;
    return found === null ? undefined : partsOf(`${found}/${id}`).owner;
  }

  #idKey(id: string): string {
    return `${shardPrefix(this.#connection.prefix, shardOf(id))}i:${id}`;
  }

  #call(owner: CommandOwner, operation: string, args: readonly Argument[], bytes?: number): Promise<Reply> {
    const name = `${owner.tenant}/${owner.clientId}`;
    return this.#queue.call(shardOf(name), operation, [name, ...args], bytes);
  }

  async #scored(operation: string, args: readonly Argument[]): Promise<{ count: number; members: Scored[] }[]> {
    const replies = await Promise.all(everyShard.map((shard) => this.#queue.call(shard, operation, args)));
    return replies.map((reply) => {
      if (operation === 'newest') return { count: 0, members: scoredIn(reply) };
      const [count, members] = reply as [number, Reply];
      return { count, members: scoredIn(members) };
    });
  }
}

type AnyHold = Hold | 'nobody' | undefined;

interface Scored {
  readonly member: string;
  readonly score: number;
}

/** A reply is flat, or pairs, by the protocol that is spoken. */
function scoredIn(reply: Reply): Scored[] {
  const flat = (reply as Reply[]).flat();
  const found: Scored[] = [];
  for (let i = 0; i < flat.length; i += 2) found.push({ member: String(flat[i]), score: Number(String(flat[i + 1])) });
  return found;
}

/** `id, command, state` of each. */
function storedIn({ tenant, clientId }: CommandOwner, reply: Reply): StoredCommand[] {
  const flat = reply as Buffer[];
  const found: StoredCommand[] = [];
  for (let i = 0; i < flat.length; i += 3) found.push(storedFrom({ tenant, clientId }, flat[i + 1]!, flat[i + 2]!));
  return found;
}

function existing(command: Command, stored: StoredCommand): AddOutcome {
  if (isSameContent(stored.command, command)) return { kind: 'existing', stored };
  return { kind: 'conflict', message: takenMessage(command, stored.command) };
}

function checkHold(reply: Reply, owner: CommandOwner, hold: AnyHold): void {
  if (hold && String((reply as Reply[])[0]) === 'fenced')
    throw new FencedError(owner, hold, holderIn(reply as Reply[]));
}

function holderIn([, instance, epoch]: readonly Reply[]): Hold | undefined {
  return String(instance) === '' ? undefined : { instance: String(instance), epoch: Number(String(epoch)) };
}

function holdArguments(hold: AnyHold): Argument[] {
  if (hold === undefined) return ['', ''];
  return hold === 'nobody' ? ['nobody', ''] : [hold.instance, hold.epoch];
}

const scoreOf = (atMs: number): string => (atMs === Number.POSITIVE_INFINITY ? 'inf' : String(atMs));
const shardOfOwner = ({ tenant, clientId }: CommandOwner): number => shardOf(`${tenant}/${clientId}`);
/** Tells one call, with its repetitions, from the next. */
const newToken = (): number => randomInt(2 ** 47);
const unknown = (id: string): HubError => new HubError('not-found', `no stored command ${id}`);

/** `tenant/client/id`; none of the three can hold a slash. */
function partsOf(member: string): { owner: CommandOwner; id: string } {
  const [tenant = '', clientId = '', id = ''] = member.split('/');
  return { owner: { tenant, clientId }, id };
}
