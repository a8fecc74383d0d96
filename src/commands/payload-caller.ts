import { type Clock, systemClock } from '../flow/clock.ts';
import { checkClientId } from '../protocol/checks.ts';
import type { CommandUpdate, Payload } from '../protocol/command.ts';
import { type Call, deliver, type SendReceipt, type SettledCommand, settle, updatesOf } from './calls.ts';
import { Road, type RoadOptions } from './roads.ts';
import {
  invalid,
  planSend,
  type SendDefaults,
  type SendOptions,
  type SendPlan,
  standardPlan,
  tenantOr,
  toCommand,
} from './send-options.ts';

/** Whom to command, and by which road. */
export interface CallerOptions extends RoadOptions {
  /** The device. */
  readonly clientId: string;
  /** Whose device it is, on a road within this process; elsewhere the token says it. Default: `default`. */
  readonly tenant?: string | undefined;
  /** Options for every command. */
  readonly defaults?: SendDefaults | undefined;
  /** Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/** Sends encoded payloads to one device: what every typed client is made of. */
export class PayloadCaller {
  readonly clientId: string;
  readonly #tenant: string;
  readonly #plan: SendPlan;
  readonly #road: Road;
  readonly #clock: Clock;

  /** Throws `invalid-argument` naming the value that cannot be. */
  constructor({ clientId, tenant, defaults, clock = systemClock, ...road }: CallerOptions) {
    if (typeof clientId !== 'string') throw invalid('clientId', clientId, 'a text');
    checkClientId(clientId);
    this.clientId = clientId;
    this.#tenant = tenantOr(tenant);
    this.#plan = planSend(standardPlan, defaults);
    this.#road = new Road(road);
    this.#clock = clock;
  }

  send(payload: Payload, options?: SendOptions): Promise<SendReceipt> {
    return deliver(this.#call(payload, options));
  }

  settle(payload: Payload, options?: SendOptions): Promise<SettledCommand>;
  /** Resolves to what `read` makes of the answer. */
  settle<T>(payload: Payload, options: SendOptions | undefined, read: (settled: SettledCommand) => T): Promise<T>;
  settle<T>(payload: Payload, options?: SendOptions, read?: (settled: SettledCommand) => T) {
    const call = this.#call(payload, options);
    return read === undefined ? settle(call) : settle(call, read);
  }

  updates(payload: Payload, options?: SendOptions): AsyncIterable<CommandUpdate> {
    return updatesOf(this.#call(payload, options));
  }

  close(): Promise<void> {
    return this.#road.close();
  }

  #call(payload: Payload, options: SendOptions | undefined): Call {
    const plan = planSend(this.#plan, options);
    return {
      road: this.#road.transport(),
      command: toCommand(this.#tenant, this.clientId, payload, plan, this.#clock),
      timeoutMs: plan.timeoutMs,
      signal: plan.signal,
      clock: this.#clock,
    };
  }
}
