import { memoryRunStore, pollingEngine } from '../../src/tasks/index.ts';
import { taskEngineContract } from '../contracts/task-engine.ts';

taskEngineContract('embedded', async () => ({
  store: memoryRunStore(),
  engine: async () => pollingEngine({ pollMs: 300 }),
  close: async () => undefined,
}));
