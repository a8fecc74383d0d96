import type { NewEvent } from '../events/event-log.ts';
import type { CommandState, CommandUpdate, Payload } from '../protocol/command.ts';

/** What an update weighs beside its result, about, in bytes. */
export const updateBytes = 256;

/** A command's step as an event: one object, of which the data is made when somebody reads it. */
export class CommandEvent implements NewEvent {
  readonly durable: boolean;
  readonly isLasting = true;
  readonly #commandType: string;
  readonly #update: CommandUpdate;

  constructor(commandType: string, update: CommandUpdate, durable: boolean) {
    this.#commandType = commandType;
    this.#update = update;
    this.durable = durable;
  }

  get type(): string {
    return eventTypes[this.#update.state];
  }

  get atMs(): number {
    return this.#update.atMs;
  }

  get data(): this {
    return this;
  }

  get bytes(): number {
    return bytesOf(this.#update);
  }

  toJSON(): unknown {
    return commandEventData(this.#commandType, this.#update);
  }
}

/** About what the event of an update holds on to, in bytes. */
export function bytesOf(update: CommandUpdate): number {
  return updateBytes + (update.state === 'succeeded' ? update.result.value.length : 0);
}

const eventTypes: Record<CommandState, string> = {
  queued: 'command.queued',
  sent: 'command.sent',
  delivered: 'command.delivered',
  started: 'command.started',
  progress: 'command.progress',
  succeeded: 'command.succeeded',
  failed: 'command.failed',
  rejected: 'command.rejected',
  cancelled: 'command.cancelled',
  expired: 'command.expired',
  unknown: 'command.unknown',
};

function commandEventData(type: string, update: CommandUpdate): unknown {
  const base = {
    commandId: update.commandId,
    clientId: update.clientId,
    type,
    state: update.state,
    at: new Date(update.atMs).toISOString(),
  };
  switch (update.state) {
    case 'progress': {
      const { fraction, note, item } = update.progress;
      return { ...base, progress: { fraction, note, item: item && payloadData(item) } };
    }
    case 'succeeded':
      return { ...base, result: payloadData(update.result) };
    case 'queued':
    case 'sent':
    case 'delivered':
    case 'started':
      return base;
    default:
      return { ...base, error: update.error };
  }
}

function payloadData(payload: Payload): unknown {
  return { type: payload.type, base64: Buffer.from(payload.value).toString('base64') };
}
