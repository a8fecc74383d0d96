import { commandTransportContract } from '../contracts/command-transport.ts';

commandTransportContract('the hub', async (hub) => ({
  as: () => hub,
  watch: (tenant, commandId) => hub.watch(tenant, commandId),
  cancel: (tenant, commandId) => hub.cancel(tenant, commandId, 'by the test'),
  close: async () => undefined,
}));
