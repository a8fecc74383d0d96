import { HubError } from '../errors.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { invalid } from './send-options.ts';

/** The name under which a process registers its one hub. */
export const defaultServiceName = 'default';

/** Hubs of this process by name, so that callers in it find them without being handed one. */
export class ServiceRegistry {
  readonly #services = new Map<string, CommandTransport>();

  /** Throws `invalid-argument` when the name is taken, unless `replace` is set. The service stays its owner's. */
  register(name: string, service: CommandTransport, { replace = false }: { replace?: boolean } = {}): void {
    if (typeof name !== 'string' || name === '') throw invalid('service name', name, 'a text that is not empty');
    if (typeof service?.send !== 'function') throw invalid(`service "${name}"`, service, 'a CommandTransport');
    if (!replace && this.#services.has(name))
      throw new HubError('invalid-argument', `a service named "${name}" is registered already`);
    this.#services.set(name, service);
  }

  get(name: string = defaultServiceName): CommandTransport | undefined {
    return this.#services.get(name);
  }

  /**
   * False when there was none. With `service`: only if it is still that one, so that the owner of a replaced service
   * does not take away its successor.
   */
  unregister(name: string, service?: CommandTransport): boolean {
    if (service !== undefined && this.#services.get(name) !== service) return false;
    return this.#services.delete(name);
  }

  /** The names, sorted. */
  list(): string[] {
    return [...this.#services.keys()].sort();
  }

  isRegistered(name: string = defaultServiceName): boolean {
    return this.#services.has(name);
  }

  clear(): void {
    this.#services.clear();
  }
}

const services = new ServiceRegistry();

/** Registers a hub of this process in the default registry. As `ServiceRegistry.register`. */
export function registerService(name: string, service: CommandTransport, options?: { replace?: boolean }): void {
  services.register(name, service, options);
}

/** The service of that name in the default registry. Default: `default`. */
export function getService(name?: string): CommandTransport | undefined {
  return services.get(name);
}

/** Takes a service out of the default registry. As `ServiceRegistry.unregister`. */
export function unregisterService(name: string, service?: CommandTransport): boolean {
  return services.unregister(name, service);
}

/** The names in the default registry, sorted. */
export function listServices(): string[] {
  return services.list();
}

export function isServiceRegistered(name?: string): boolean {
  return services.isRegistered(name);
}

/** Empties the default registry. The services stay open. */
export function clearServices(): void {
  services.clear();
}
