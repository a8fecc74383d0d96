// A client class with a product's own verbs: a subclass of StreamingCommandClient for one command message.
//
//   node examples/pump-client.ts
import { HubError, protoCodec, type RoadOptions, type SendOptions, StreamingCommandClient } from 'signalbox';
import { PumpAnswer, PumpCommand, type PumpConfig } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { connectPump } from './support.ts';

class PumpClient extends StreamingCommandClient<PumpCommand, PumpAnswer> {
  constructor(clientId: string, road: RoadOptions = {}) {
    super({ ...road, clientId, codec: protoCodec(PumpCommand), result: protoCodec(PumpAnswer) });
  }

  start(rpm: number, options?: SendOptions) {
    return this.request({ kind: { $case: 'start', value: { rpm } } }, options);
  }

  stop(options?: SendOptions) {
    return this.request({ kind: { $case: 'stop', value: {} } }, options);
  }

  /** Only what is set is changed. */
  configUpdate(config: PumpConfig, options?: SendOptions) {
    return this.request({ kind: { $case: 'configUpdate', value: { config } } }, options);
  }

  async restart(rpm: number, options?: SendOptions) {
    await this.stop(options);
    return this.start(rpm, options);
  }
}

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });
await using _device = await connectPump({ address: server.grpc[0]!, clientId: 'pump-7' });

// The same class on both roads: the hub in this process, and the RPC that other processes take.
for (const road of [{ transport: server.hub }, { address: server.grpc[0]! }]) {
  await using pump = new PumpClient('pump-7', road);
  console.log('start', (await pump.start(1200)).kind);
  console.log('configUpdate', (await pump.configUpdate({ maxBar: 6 })).kind);
  console.log('restart', (await pump.restart(900)).kind);
  try {
    await pump.start(99_999);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    console.log('start', error.code, error.deviceCode);
  }
}
