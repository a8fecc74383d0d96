import { openAuthenticator } from '../../../src/auth/index.ts';
import type { Authenticator } from '../../../src/auth/principal.ts';
import { connectDevice, type Device } from '../../../src/device/index.ts';
import { memoryEventLog } from '../../../src/events/memory-event-log.ts';
import { simulatedPump } from '../../../src/example/simulated-pump.ts';
import { serveGateway } from '../../../src/gateway/index.ts';
import { serveGrpc } from '../../../src/grpc/serve-grpc.ts';
import { Hub } from '../../../src/hub/index.ts';
import { PumpServiceDefinition } from '../../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { schemasFromProto } from '../../../src/schemas/index.ts';
import { builtInPage } from '../../../src/server/page/built-in-page.ts';
import { root } from '../../support/sources.ts';

export interface TestHub extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Connects a simulated pump. */
  pump(clientId: string, labels?: Record<string, string>): Promise<Device>;
}

/** A hub with its gateway and page, and real devices over gRPC. */
export async function openHub({ authenticator = openAuthenticator() as Authenticator } = {}): Promise<TestHub> {
  const log = memoryEventLog();
  const hub = new Hub({ log });
  // Devices come without a token; how they show who they are is tested elsewhere.
  const grpc = await serveGrpc({ hub, log, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
  const types = await schemasFromProto([`${root}/proto/signalbox/example/v1/pump.proto`]);
  const page = builtInPage();
  const gateway = await serveGateway({ hub, log, authenticator, addresses: ['127.0.0.1:0'], types, page });
  const devices: { device: Device; close: () => void }[] = [];
  return {
    url: gateway.urls[0]!,
    port: Number(new URL(gateway.urls[0]!).port),
    async pump(clientId, labels = {}) {
      const device = await connectDevice({ address: grpc.addresses[0]!, clientId, labels, agent: 'simulated pump' });
      const pump = simulatedPump({ emit: (type, data) => device.emit(type, data), temperatureEveryMs: 0 });
      device.implement(PumpServiceDefinition, pump.service);
      devices.push({ device, close: () => pump.close() });
      return device;
    },
    async [Symbol.asyncDispose]() {
      for (const { device, close } of devices) {
        close();
        await device.close();
      }
      await gateway.close({ timeoutMs: 1000 });
      await grpc.close({ timeoutMs: 1000 });
      await hub.close();
      await log.close();
    },
  };
}
