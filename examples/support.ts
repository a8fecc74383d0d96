// What the examples share: a simulated pump to command. Not an example itself.
import { protoCodec } from 'signalbox';
import { connectDevice, type Device, type DeviceOptions } from 'signalbox/device';
import { PumpAnswer, PumpCommand, PumpServiceDefinition, simulatedPump } from 'signalbox/example';

export interface PumpOptions extends DeviceOptions {
  /** Time that a start takes, in ms. Default: 200. */
  rampMs?: number;
  /** Time between two `temperature` events, in ms. Default: none are told. */
  temperatureEveryMs?: number;
}

/** A pump that is connected, and lets go of everything at the end of its block. */
export interface Pump extends AsyncDisposable {
  readonly device: Device;
  /** Lets commands end, then leaves the hub. As `device.close`. */
  close(options?: { timeoutMs?: number }): Promise<void>;
}

/** Connects a simulated pump that takes both forms of the contract: the service, and `PumpCommand` as one message. */
export async function connectPump({ rampMs, temperatureEveryMs = 0, ...options }: PumpOptions): Promise<Pump> {
  const device = await connectDevice(options);
  const { service, close: stop } = simulatedPump({
    emit: (name, data) => device.emit(name, data),
    temperatureEveryMs,
    ...(rampMs !== undefined && { rampMs }),
  });
  device.implement(PumpServiceDefinition, service);
  device.handle(
    protoCodec(PumpCommand),
    async ({ kind }, context): Promise<PumpAnswer> => {
      switch (kind?.$case) {
        case 'start':
          return { kind: { $case: 'start', value: await service.start(kind.value, context) } };
        case 'stop':
          return { kind: { $case: 'stop', value: await service.stop() } };
        case 'configUpdate':
          return { kind: { $case: 'configUpdate', value: await service.configUpdate(kind.value) } };
        default:
          throw new Error('the command is empty');
      }
    },
    { result: protoCodec(PumpAnswer) },
  );
  const close = async (wait?: { timeoutMs?: number }): Promise<void> => {
    stop();
    await device.close(wait);
  };
  return { device, close, [Symbol.asyncDispose]: () => close() };
}
