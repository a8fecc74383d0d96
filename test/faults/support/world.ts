import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import type { ServeOptions } from '../../../src/server/index.ts';
import { compare, type Verdict } from './checker.ts';
import { Child, killAll } from './child.ts';
import type { DeviceProcessOptions } from './device-process.ts';
import { HubProcess } from './hub.ts';
import { type CallerLine, type EffectLine, Ledger, readLedger } from './ledger.ts';

/** A folder with data and ledgers, a hub process, and whatever a test adds; all gone when the test ends. */
export class World {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'signalbox-faults-'));
  readonly ledger: Ledger<CallerLine>;
  hub!: HubProcess;

  private constructor() {
    this.ledger = new Ledger(path.join(this.folder, 'callers'));
    onTestFinished(async () => {
      await killAll();
      this.ledger.close();
      rmSync(this.folder, { recursive: true, force: true });
    });
  }

  static async open(options: ServeOptions = {}, limit?: string): Promise<World> {
    const world = new World();
    world.hub = await HubProcess.start({ data: path.join(world.folder, 'data'), ...options }, limit);
    return world;
  }

  /** Devices in one process; resolves once it runs, connected or not. */
  devices(names: readonly string[], options: Partial<DeviceProcessOptions> = {}): Child {
    return new Child('device-process', {
      address: this.hub.grpc,
      names,
      journals: path.join(this.folder, 'journals'),
      effects: path.join(this.folder, 'effects'),
      ...options,
    } satisfies DeviceProcessOptions);
  }

  get effects(): EffectLine[] {
    return readLedger<EffectLine>(path.join(this.folder, 'effects'));
  }

  get callers(): CallerLine[] {
    return readLedger<CallerLine>(path.join(this.folder, 'callers'));
  }

  verdict(): Verdict {
    return compare(this.callers, this.effects);
  }
}

export const numbered = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
