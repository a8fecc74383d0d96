import { type Clock, systemClock } from '../flow/clock.ts';
import type { CommandCodec } from '../protocol/codec.ts';
import type { Payload } from '../protocol/command.ts';
import type {
  DeepPartial,
  MethodDefinition,
  RequestOf,
  ResponseOf,
  ServiceDefinition,
} from '../protocol/service-definition.ts';
import { type Call, deliver, type SendReceipt, type SettledCommand, settle } from './calls.ts';
import { type ClientLister, listerOf } from './client-lister.ts';
import { encodeRequest, responseCodec } from './command-client.ts';
import { FleetRun } from './fleet-run.ts';
import { checkSelector, type FleetSelector, select } from './fleet-selector.ts';
import { fromPayload, toPayload } from './payloads.ts';
import { Road, type RoadOptions } from './roads.ts';
import {
  invalid,
  planSend,
  type SendOptions,
  type SendPlan,
  standardPlan,
  tenantOr,
  toCommand,
} from './send-options.ts';

/** How a command is sent to many; each command's own id is made for it. */
export type FleetSendOptions = Omit<SendOptions, 'commandId'>;

/** How many clients are commanded at once, and when to give up. Also: the road, and options for every command. */
export interface FleetOptions<TCommand = Payload, TResult = Payload> extends RoadOptions, FleetSendOptions {
  /** Turns commands into bytes. Default: they are payloads already. */
  readonly codec?: CommandCodec<TCommand> | undefined;
  /** Reads the answers. Default: they are given as the payload that came. */
  readonly result?: CommandCodec<TResult> | undefined;
  /** Tells which clients there are, for labels and `all`. Default: the hub at the end of the road. */
  readonly clients?: ClientLister | undefined;
  /** Whose clients, on a road within this process. Default: `default`. */
  readonly tenant?: string | undefined;
  /** Commands on their way at once. Default: 32. */
  readonly concurrency?: number | undefined;
  /** Most commands begun in a second. Default: no limit. */
  readonly ratePerSecond?: number | undefined;
  /** Begin no more once this many have not succeeded. Default: go on. */
  readonly abortAfterFailures?: number | undefined;
  /** Begin no more once more than this part of those that ended (10 or more) has not succeeded. Default: go on. */
  readonly abortAfterFailureRatio?: number | undefined;
  /** Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/** A contract's unary methods, each to all clients of a fleet. */
export type FleetClient<D extends ServiceDefinition> = {
  readonly [K in keyof D['methods'] as IsUnary<D['methods'][K]> extends true ? K : never]: (
    request: DeepPartial<RequestOf<D['methods'][K]>>,
    options?: FleetSendOptions,
  ) => FleetRun<ResponseOf<D['methods'][K]>>;
};

type IsUnary<M extends MethodDefinition> = true extends M['requestStream'] | M['responseStream'] ? false : true;

/** Many clients, commanded as one. */
export interface Fleet<TCommand, TResult> extends AsyncDisposable {
  /** Each client's answer. The command is encoded once, now. */
  request(command: TCommand, options?: FleetSendOptions): FleetRun<TResult>;
  /** Each client's acknowledgement, or that the command is stored for it. The command is encoded once, now. */
  send(command: TCommand, options?: FleetSendOptions): FleetRun<SendReceipt>;
  /** The fleet as one object with the contract's unary methods. */
  client<D extends ServiceDefinition>(definition: D): FleetClient<D>;
  /** Who is meant at this moment. For live commands only connected clients, unless they are named by id. */
  ids(): Promise<string[]>;
  /** Lets go of the connection to a hub in another process. May be called twice. */
  close(): Promise<void>;
}

/**
 * Commands many clients at once, each outcome told as it comes:
 *
 * ```ts
 * const pumps = fleet({ labels: { site: 'north' } }, { concurrency: 50, abortAfterFailures: 5 }).client(PumpServiceDefinition);
 * for await (const { clientId, outcome } of pumps.configUpdate({ config: { maxRpm: 900 } })) console.log(clientId, outcome);
 * ```
 *
 * Throws `invalid-argument` naming the option that cannot be.
 */
export function fleet<TCommand = Payload, TResult = Payload>(
  selector: FleetSelector,
  options: FleetOptions<TCommand, TResult> = {},
): Fleet<TCommand, TResult> {
  checkSelector(selector);
  const { codec, result, concurrency = 32, ratePerSecond = Number.POSITIVE_INFINITY, clock = systemClock } = options;
  if (!(Number.isInteger(concurrency) && concurrency >= 1))
    throw invalid('concurrency', concurrency, 'a whole number above 0');
  if (!(ratePerSecond > 0)) throw invalid('ratePerSecond', ratePerSecond, 'above 0');
  const goesOn = threshold(options);
  const tenant = tenantOr(options.tenant);
  const basePlan = planSend(standardPlan, options);
  const road = new Road(options);

  const idsFor = (plan: SendPlan): Promise<string[]> =>
    select(selector, {
      tenant,
      connectedOnly: plan.whenOffline === 'fail' && plan.waitForConnectMs === 0,
      lister: () => options.clients ?? listerOf(road.transport()),
    });
  const run = <T>(payload: Payload, own: FleetSendOptions | undefined, perform: (call: Call) => Promise<T>) => {
    const { signal, ...plan } = planSend(basePlan, { ...own, signal: own?.signal ?? options.signal });
    if (plan.commandId !== undefined) throw invalid('commandId', plan.commandId, 'left out: every client gets its own');
    return new FleetRun(
      () => idsFor(plan),
      async (clientId) =>
        perform({
          road: road.transport(),
          command: toCommand(tenant, clientId, payload, plan, clock),
          timeoutMs: plan.timeoutMs,
          signal,
          clock,
        }),
      { concurrency, ratePerSecond, goesOn, signal, clock },
    );
  };
  const encoded = (command: TCommand): Payload =>
    codec === undefined ? (command as Payload) : toPayload(codec, command);
  const decoded = ({ commandId, result: payload }: SettledCommand): TResult =>
    result === undefined ? (payload as TResult) : fromPayload(result, payload, commandId);
  const close = (): Promise<void> => road.close();

  return {
    request: (command, own) => run(encoded(command), own, async (call) => decoded(await settle(call))),
    send: (command, own) => run(encoded(command), own, deliver),
    ids: () => idsFor(basePlan),
    client<D extends ServiceDefinition>(definition: D): FleetClient<D> {
      const methods = Object.entries(definition.methods).filter(([, m]) => !m.requestStream && !m.responseStream);
      const client = methods.map(([key, method]) => {
        const answers = responseCodec(method);
        const call = (request: unknown, own?: FleetSendOptions): FleetRun<unknown> =>
          run(encodeRequest(definition, method, request), own, async (one) => {
            const { commandId, result: payload } = await settle(one);
            return fromPayload(answers, payload, commandId);
          });
        return [key, call];
      });
      return Object.fromEntries(client) as FleetClient<D>;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A ratio says nothing before this many have ended. */
const leastForRatio = 10;

function threshold(
  options: Pick<FleetOptions, 'abortAfterFailures' | 'abortAfterFailureRatio'>,
): (ended: number, failed: number) => boolean {
  const { abortAfterFailures: most, abortAfterFailureRatio: ratio } = options;
  if (most !== undefined && !(Number.isInteger(most) && most >= 1))
    throw invalid('abortAfterFailures', most, 'a whole number above 0');
  if (ratio !== undefined && !(ratio >= 0 && ratio < 1))
    throw invalid('abortAfterFailureRatio', ratio, 'from 0 to less than 1');
  return (ended, failed) =>
    (most === undefined || failed < most) && (ratio === undefined || ended < leastForRatio || failed / ended <= ratio);
}
