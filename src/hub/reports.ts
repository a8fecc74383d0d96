import { type HubErrorCode, toHubError } from '../errors.ts';
import { checkForeignEventType } from '../events/channels.ts';
import { foreignData } from '../events/foreign-data.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import { clip, limits, progressFault } from '../protocol/checks.ts';
import { errorFromProto, payloadFromProto, progressFromProto, terminalStateFromProto } from '../protocol/convert.ts';
import type { CommandProgress, DeviceEvent, Result } from '../protocol/gen/signalbox/v1/device.ts';
import type { CommandLife } from './command-life.ts';
import type { CommandStore } from './command-store.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import type { Publisher } from './publisher.ts';
import type { NumberedBody, Session } from './session.ts';

const logRetryMs = 1000;

/**
 * Takes over what devices report: started, progress, results, events. A report that is late, repeated, foreign or out
 * of range changes nothing; it is acknowledged, so that it does not come for ever, and told as a fact.
 */
export class Reports {
  readonly #settings: Settings;
  readonly #life: CommandLife;
  readonly #publisher: Publisher;
  readonly #wheel: TimingWheel;

  constructor(settings: Settings, life: CommandLife, publisher: Publisher, wheel: TimingWheel) {
    this.#settings = settings;
    this.#life = life;
    this.#publisher = publisher;
    this.#wheel = wheel;
  }

  take(session: Session, body: NumberedBody): Promise<boolean> | undefined {
    switch (body.$case) {
      case 'started': {
        const pending = this.#ownedBy(session, body.value.commandId);
        if (pending && !pending.isEnding) this.#life.started(pending);
        return undefined;
      }
      case 'progress':
        this.#progress(session, body.value);
        return undefined;
      case 'result':
        return this.#result(session, body.value);
      case 'event':
        return this.#event(session, body.value);
      default:
        return body satisfies never;
    }
  }

  #progress(session: Session, { commandId, progress: told }: CommandProgress): void {
    const pending = this.#ownedBy(session, commandId);
    if (!pending) return;
    const progress = progressFromProto(told);
    const fault = progressFault(progress);
    if (fault) this.#ignored(session, 'invalid-argument', `${fault} (command ${commandId})`);
    else this.#life.progress(pending, progress);
  }

  #result(session: Session, result: Result): Promise<boolean> | undefined {
    // Most often it is of the oldest command that the device has.
    const { first } = session.client.inFlight;
    const pending = first?.id === result.commandId ? first : this.#life.registry.get(result.commandId);
    const store = this.#settings.commands;
    if (pending && !(store && isUnsent(pending))) return this.#end(session, pending, result);
    return store ? this.#storedEnd(session, result, store) : this.#strayEnd(session, result);
  }

  /** Of a command from before this process: the device may tell its end before its mailbox is read. */
  async #storedEnd(session: Session, result: Result, store: CommandStore): Promise<boolean> {
    for (;;) {
      try {
        const stored = await store.get(result.commandId);
        if (!stored) return (await this.#strayEnd(session, result)) ?? true;
        return (await this.#end(session, this.#life.recall(stored), result)) ?? true;
      } catch (cause) {
        this.#settings.observe({
          kind: 'store-failed',
          operation: 'look for a command that has ended',
          message: toHubError(cause).message,
          cause,
        });
      }
      // As long as the session lives nobody tells it again.
      await new Promise<void>((resolve) => this.#wheel.set(new Alarm(resolve), logRetryMs));
      if (!session.isOpen) return false;
    }
  }

  /** Of a command that nobody here knows; one that the device had begun when it came is kept for who asks how it ended. */
  #strayEnd(session: Session, result: Result): Promise<boolean> | undefined {
    const { commandId } = result;
    const client = this.#life.clientOf(session.client.tenant, session.client.id);
    const known = this.#life.registry.get(commandId);
    if (known) return this.#end(session, known, result);
    if (client && session.begun.has(commandId))
      return this.#end(session, this.#life.stray(commandId, client, session.journalId), result);
    this.#ignored(session, 'not-found', `a result came for command ${brief(commandId)}, which is not known`);
    return undefined;
  }

  #end(session: Session, pending: PendingCommand, result: Result): Promise<boolean> | undefined {
    const { command } = pending;
    const fault = this.#faultOf(session, pending, result);
    if (fault) {
      this.#ignored(session, fault.code, fault.message);
      return undefined;
    }
    session.begun.delete(command.id);
    const state = terminalStateFromProto(result.state);
    if (state !== 'succeeded') {
      const { code, message } = errorFromProto(result.error);
      return this.#life.endWith(pending, state, { code: clip(code || state), message: clip(message) });
    }
    return this.#life.end(pending, {
      commandId: command.id,
      clientId: command.clientId,
      atMs: this.#settings.clock.now(),
      state,
      result: payloadFromProto(result.payload ?? { type: '', value: new Uint8Array(0) }),
    });
  }

  #faultOf(
    session: Session,
    pending: PendingCommand,
    result: Result,
  ): { code: HubErrorCode; message: string } | undefined {
    const { command } = pending;
    const { client } = session;
    if (command.tenant !== client.tenant || command.clientId !== client.id)
      return {
        code: 'permission-denied',
        message: `a result came for command ${command.id}, which is not this client's`,
      };
    if (pending.hasEnded || pending.isEnding)
      return {
        code: 'idempotency-conflict',
        message: `a result came for command ${command.id}, which has ended (${pending.state})`,
      };
    if (pending.journal === undefined)
      return { code: 'permission-denied', message: `a result came for command ${command.id}, which was never sent` };
    try {
      terminalStateFromProto(result.state);
      return undefined;
    } catch (error) {
      return { code: 'invalid-argument', message: `${toHubError(error).message} (result of command ${command.id})` };
    }
  }

  #event(session: Session, event: DeviceEvent): Promise<boolean> | undefined {
    const { client, lineage } = session;
    let data: ReturnType<typeof foreignData>;
    try {
      checkForeignEventType(event.name);
      data = foreignData(event.json);
    } catch (error) {
      this.#ignored(session, 'invalid-argument', `event ${event.number}: ${toHubError(error).message}`);
      return undefined;
    }
    if (event.number < 1) {
      this.#ignored(session, 'invalid-argument', `event "${event.name}" has no number`);
      return undefined;
    }
    const kept = (): Promise<void> | undefined =>
      this.#publisher.deviceEvent(client.tenant, client.id, {
        type: event.name,
        atMs: this.#settings.clock.now(),
        ...data,
        durable: true,
        producer: { id: lineage.bootId, seq: event.number },
      });
    return kept()?.then(
      () => true,
      (cause: unknown) => this.#keepTrying(session, kept, cause),
    );
  }

  /** As long as the session lives; then the device sends it again in the next. */
  async #keepTrying(session: Session, keep: () => Promise<void> | undefined, first: unknown): Promise<boolean> {
    for (let cause = first; ; ) {
      this.#settings.observe({
        kind: 'store-failed',
        operation: 'keep an event',
        message: toHubError(cause).message,
        cause,
      });
      await new Promise<void>((resolve) => this.#wheel.set(new Alarm(resolve), logRetryMs));
      if (!session.isOpen) return false;
      try {
        await keep();
        return true;
      } catch (error) {
        cause = error;
      }
    }
  }

  #ownedBy(session: Session, commandId: string): PendingCommand | undefined {
    const pending = this.#life.registry.get(commandId);
    const { client } = session;
    if (pending?.command.tenant === client.tenant && pending.command.clientId === client.id && !pending.hasEnded)
      return pending;
    this.#ignored(
      session,
      'not-found',
      `a report came for command ${brief(commandId)}, which is not a pending one of this client`,
    );
    return undefined;
  }

  #ignored(session: Session, code: HubErrorCode, message: string): void {
    const { tenant, id: clientId } = session.client;
    this.#settings.observe({ kind: 'frame-ignored', tenant, clientId, code, message });
  }
}

const brief = (id: string): string => JSON.stringify(id.slice(0, limits.commandIdLength));

/** Whether a command lies here as if nobody had sent it: another hub may have done so since. */
const isUnsent = ({ place, journal, hasEnded }: PendingCommand): boolean =>
  place === 'shelf' && journal === undefined && !hasEnded;
