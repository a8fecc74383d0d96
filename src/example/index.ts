export {
  PumpAnswer,
  PumpCommand,
  PumpConfig,
  PumpServiceDefinition,
} from '../protocol/gen/signalbox/example/v1/pump.ts';
export {
  type PumpCall,
  type PumpSimulation,
  type PumpState,
  type SimulatedPump,
  type SimulatedPumpOptions,
  simulatedPump,
} from './simulated-pump.ts';
