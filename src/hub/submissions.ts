import { HubError, toHubError } from '../errors.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import { checkCommand } from '../protocol/checks.ts';
import type { Command, CommandUpdate } from '../protocol/command.ts';
import type { TellOptions } from '../protocol/command-transport.ts';
import { samePayload } from '../protocol/same-payload.ts';
import type { Client } from './client.ts';
import type { ClientTable } from './client-table.ts';
import type { CommandLife } from './command-life.ts';
import type { AddOptions, AddOutcome } from './command-store.ts';
import type { Holds } from './holds.ts';
import { dueAfterSending, type Mailbox, type MailboxHost } from './mailbox.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import { isStray } from './stray-command.ts';
import { type UpdateReader, UpdateStream } from './update-stream.ts';

/** What submissions need of the hub around them. */
export interface SubmissionsHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  readonly life: CommandLife;
  readonly directory: ClientTable;
  /** Undefined in a hub without a store. */
  readonly mailboxes: MailboxHost | undefined;
  /** Set while the hub refuses commands, with the time after which they may come again. */
  readonly closingForMs: number | undefined;
  readonly holds: Holds;
  cancel(command: Command): Promise<CommandUpdate>;
}

/** Takes on commands: checks them, recognises repetitions, holds to the limits, and sets them on their way. */
export class Submissions {
  readonly #host: SubmissionsHost;
  /** Refuses sends that wait for their client to connect. */
  readonly #awaiting = new Set<(error: HubError) => void>();

  constructor(host: SubmissionsHost) {
    this.#host = host;
  }

  /** Takes on a command, or refuses it: what becomes of it is in the stream. */
  start(command: Command, { signal, brief = false }: TellOptions): UpdateStream {
    const stream = new UpdateStream(this.#host.settings.unreadUpdates, brief ? 'brief' : 'steps');
    if (signal?.aborted)
      this.#refuse(
        command,
        stream,
        new HubError('command-cancelled', `command ${command.id} was cancelled before it was sent`),
      );
    else {
      stream.endWith(signal, () => this.#cancel(command, stream));
      this.submit(command, stream);
    }
    return stream;
  }

  /** Takes on a command, or refuses it: the reader is told. */
  submit(command: Command, reader: UpdateReader): void {
    try {
      const client = this.#host.directory.get(command.tenant, command.clientId);
      checkCommand(command, this.#host.settings.maxPayloadBytes, client !== undefined);
      if (this.#host.closingForMs !== undefined && !this.#isStillTaken(command)) throw this.#shuttingDown();
      if (command.whenOffline === 'queue') this.#submitQueued(command, reader);
      else this.#submitLive(command, reader, client);
    } catch (error) {
      this.#refuse(command, reader, error);
    }
  }

  /**
   * A hub that is one of several serves the devices that have not left it yet, as nobody else can; and what it stores,
   * another one sends.
   */
  #isStillTaken({ tenant, clientId, whenOffline }: Command): boolean {
    if (this.#host.settings.claims === undefined) return false;
    return whenOffline === 'queue' || this.#host.directory.get(tenant, clientId)?.session !== undefined;
  }

  #submitLive(command: Command, reader: UpdateReader, client: Client | undefined): void {
    const same = this.#sameLive(command);
    const { clientId, waitForConnectMs } = command;
    if (same) this.#attach(same, reader);
    else if (client?.session) this.#acceptLive(command, reader, client);
    else if (waitForConnectMs === 0)
      throw new HubError('client-offline', `client ${clientId} has no live stream`, { commandId: command.id });
    else this.#awaitClient(command, reader);
  }

  #acceptLive(command: Command, reader: UpdateReader, client: Client): void {
    const { waitingCommands, waitingBytes } = this.#host.settings;
    if (client.live.size >= waitingCommands || client.liveBytes + command.payload.value.length > waitingBytes)
      throw new HubError(
        'unavailable',
        `client ${client.id} has ${client.live.size} commands (${client.liveBytes} bytes) waiting, the limits are ${waitingCommands} and ${waitingBytes}`,
        { retryAfterMs: 1000, commandId: command.id },
      );
    const pending = this.#host.life.acceptLive(command, client);
    pending.attach(reader);
    client.pushLive(pending);
    client.pump();
    if (pending.place === 'waiting') this.#host.life.publishWait(pending);
  }

  /** Not accepted before the client is there: until then it can only fail, and nothing was promised. */
  #awaitClient(command: Command, reader: UpdateReader): void {
    const { tenant, clientId, waitForConnectMs } = command;
    const client = this.#host.directory.getOrAdd(tenant, clientId);
    if (client.awaiting.size >= this.#host.settings.waitingCommands)
      throw new HubError(
        'unavailable',
        `${client.awaiting.size} commands wait for client ${clientId} to connect, the limit`,
        {
          retryAfterMs: 1000,
          commandId: command.id,
        },
      );
    const stop = (): void => {
      this.#host.wheel.clear(late);
      client.awaiting.delete(arrived);
      this.#awaiting.delete(refuse);
      reader.onCancel = undefined;
      this.#host.directory.released(client);
    };
    const arrived = (): void => {
      stop();
      try {
        const same = this.#sameLive(command);
        if (same) this.#attach(same, reader);
        else this.#acceptLive(command, reader, client);
      } catch (error) {
        this.#refuse(command, reader, error);
      }
    };
    const refuse = (error: HubError): void => {
      stop();
      this.#refuse(command, reader, error);
    };
    const late = new Alarm(() => {
      const message = `client ${clientId} did not connect within ${waitForConnectMs} ms`;
      refuse(new HubError('client-offline', message, { commandId: command.id }));
    });
    client.awaiting.add(arrived);
    this.#awaiting.add(refuse);
    this.#host.wheel.set(late, waitForConnectMs);
    reader.onReturn = stop;
    reader.onCancel = () =>
      refuse(
        new HubError('command-cancelled', `command ${command.id} was cancelled before it was sent`, {
          commandId: command.id,
        }),
      );
  }

  /** The live command that this one repeats, by id or idempotency key. */
  #sameLive(command: Command): PendingCommand | undefined {
    const { registry } = this.#host.life;
    const { id, tenant, clientId, idempotencyKey } = command;
    const same =
      registry.get(id) ??
      (idempotencyKey === undefined ? undefined : registry.withKey(tenant, clientId, idempotencyKey));
    if (same && !isSame(same, command)) throw conflict(command);
    return same;
  }

  #submitQueued(command: Command, reader: UpdateReader): void {
    const { commands: store, clock, mailboxCommands, mailboxBytes } = this.#host.settings;
    if (!store) throw new HubError('unimplemented', 'this hub has no store, so it takes no queued commands');
    const known = this.#host.life.registry.get(command.id);
    if (known && !isSame(known, command)) throw conflict(command);
    if (known) {
      this.#attach(known, reader);
      return;
    }
    const nowMs = clock.now();
    const { client, session, mailbox } = this.#recipient(command);
    const goesAtOnce =
      session && mailbox?.isCaughtUp && client.live.size === 0 && client.inFlight.size < session.window;
    const options: AddOptions = {
      hold: this.#host.holds.of(command),
      nowMs,
      maxCommands: mailboxCommands,
      maxBytes: mailboxBytes,
      dueAtMs: goesAtOnce ? dueAfterSending(command, nowMs, this.#host.settings) : nowMs + command.ttlMs,
      ...(goesAtOnce ? { sentToJournal: session.journalId } : {}),
      ...(command.coalesceKey === undefined ? {} : { supersede: supersede(command.coalesceKey, mailbox) }),
    };
    // A cancel that comes while it is being stored waits for that: nobody could find it yet.
    let isCancelled = false;
    reader.onCancel = () => {
      isCancelled = true;
    };
    // Not awaited: the frame of an async function is a kilobyte, for as long as the store writes.
    store
      .add(command, options)
      .then(
        (outcome) => {
          reader.onCancel = undefined;
          this.#added(command, reader, outcome, isCancelled);
        },
        (cause: unknown) => {
          this.#host.directory.get(command.tenant, command.clientId)?.unsureOfStored();
          throw cause;
        },
      )
      .catch((error: unknown) => this.#refuse(command, reader, error));
  }

  /** What the store said to a new command. Throws where that is a refusal. */
  #added(command: Command, reader: UpdateReader, outcome: AddOutcome, isCancelled: boolean): void {
    switch (outcome.kind) {
      case 'stored': {
        for (const old of outcome.superseded) this.#host.life.endedInStore(old);
        if (this.#host.mailboxes)
          this.#host.mailboxes.newestPosition = Math.max(this.#host.mailboxes.newestPosition, outcome.stored.position);
        const pending = this.#host.life.acceptStored(outcome.stored);
        pending.attach(reader, () => this.#host.life.shelve(pending));
        // Nothing has sent it yet, unless the mailbox was read just now.
        if (isCancelled && pending.place === 'shelf')
          void this.#host.life.endWith(pending, 'cancelled', { code: 'cancelled', message: callerCancelled });
        else {
          this.#host.directory.get(command.tenant, command.clientId)?.acceptStored(pending);
          if (isCancelled) this.#cancel(command, reader);
        }
        this.#host.life.shelve(pending);
        return;
      }
      case 'existing': {
        const pending = this.#host.life.recall(outcome.stored);
        this.#attach(pending, reader);
        if (isCancelled) this.#cancel(outcome.stored.command, reader);
        else this.#host.directory.get(command.tenant, command.clientId)?.foundStored(pending);
        return;
      }
      case 'conflict':
        throw new HubError('idempotency-conflict', outcome.message, { commandId: command.id });
      case 'full':
        throw new HubError('mailbox-full', outcome.message, { commandId: command.id, retryAfterMs: 1000 });
      case 'wrong-node':
        // Whoever sent it here looks again where the client is.
        throw new HubError('client-offline', `client ${command.clientId} is held by another node`, {
          commandId: command.id,
          retryAfterMs: 100,
        });
      default:
        outcome satisfies never;
    }
  }

  /** This send repeats a command that is known, perhaps under another id: its reader reads, and cancels, that one. */
  #attach(known: PendingCommand, reader: UpdateReader): void {
    reader.onCancel = () => this.#cancel(known.command, reader);
    known.attach(reader, () => this.#host.life.shelve(known));
  }

  #cancel(command: Command, reader: UpdateReader): void {
    this.#host.cancel(command).catch((error: unknown) => reader.fail(error));
  }

  #recipient(command: Command) {
    const client = this.#host.directory.get(command.tenant, command.clientId);
    return client?.session
      ? { client, session: client.session, mailbox: client.mailbox }
      : { client, session: undefined, mailbox: undefined };
  }

  /** The hub is shutting down: nobody needs to wait for a client any more. */
  refuseAwaiting(): void {
    for (const refuse of [...this.#awaiting]) refuse(this.#shuttingDown());
  }

  #refuse(command: Command, reader: UpdateReader, thrown: unknown): void {
    const error = toHubError(thrown);
    const { tenant, clientId, id: commandId } = command;
    this.#host.settings.observe({
      kind: 'command-refused',
      tenant,
      clientId,
      commandId,
      code: error.code,
      message: error.message,
    });
    reader.fail(error);
  }

  #shuttingDown(): HubError {
    return new HubError('unavailable', 'the hub is shutting down', { retryAfterMs: this.#host.closingForMs ?? 0 });
  }
}

/** Why a command is cancelled whose sender aborted. */
export const callerCancelled = 'the caller cancelled';

function supersede(coalesceKey: string, mailbox: Mailbox | undefined): NonNullable<AddOptions['supersede']> {
  if (!mailbox) return { ids: [], afterPosition: 0 };
  return { ids: mailbox.withCoalesceKey(coalesceKey).map(({ id }) => id), afterPosition: mailbox.loadedUpTo };
}

/** Whether `b` is a repetition of `a`: the same order for the same client. */
function isSame(known: PendingCommand, b: Command): boolean {
  const a = known.command;
  return (
    a.tenant === b.tenant &&
    a.clientId === b.clientId &&
    a.whenOffline === b.whenOffline &&
    // Of what another hub had sent there is only the id.
    (isStray(known) || samePayload(a.payload, b.payload))
  );
}

function conflict(command: Command): HubError {
  const { id, idempotencyKey } = command;
  const by = idempotencyKey === undefined ? `id ${id}` : `id ${id} or idempotency key "${idempotencyKey}"`;
  return new HubError('idempotency-conflict', `another command was accepted with ${by}`, { commandId: id });
}
