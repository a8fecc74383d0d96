import { afterEach, expect, test } from 'vitest';
import {
  clearServices,
  getService,
  isServiceRegistered,
  listServices,
  registerService,
  ServiceRegistry,
  unregisterService,
} from '../../src/commands/index.ts';
import { ScriptedTransport } from './scripted-transport.ts';

afterEach(clearServices);

test('a registered service is found by its name until it is unregistered', () => {
  const hub = new ScriptedTransport();
  registerService('north', hub);
  registerService('default', hub);
  expect(getService('north')).toBe(hub);
  expect(getService()).toBe(hub);
  expect(listServices()).toEqual(['default', 'north']);
  expect(isServiceRegistered('north')).toBe(true);
  expect(unregisterService('north')).toBe(true);
  expect(unregisterService('north')).toBe(false);
  expect(isServiceRegistered('north')).toBe(false);
  expect(getService('north')).toBeUndefined();
  clearServices();
  expect(listServices()).toEqual([]);
});

test('a taken name is refused, unless it is to be replaced', () => {
  const registry = new ServiceRegistry();
  const [first, second] = [new ScriptedTransport(), new ScriptedTransport()];
  registry.register('hub', first);
  expect(() => registry.register('hub', second)).toThrow('a service named "hub" is registered already');
  expect(registry.get('hub')).toBe(first);
  registry.register('hub', second, { replace: true });
  expect(registry.get('hub')).toBe(second);
});

test('the owner of a replaced service does not take away its successor', () => {
  const registry = new ServiceRegistry();
  const [first, second] = [new ScriptedTransport(), new ScriptedTransport()];
  registry.register('hub', first);
  registry.register('hub', second, { replace: true });
  expect(registry.unregister('hub', first)).toBe(false);
  expect(registry.get('hub')).toBe(second);
});

test('registries are separate, and refuse what is no service', () => {
  const registry = new ServiceRegistry();
  registry.register('hub', new ScriptedTransport());
  expect(isServiceRegistered('hub')).toBe(false);
  expect(() => registry.register('', new ScriptedTransport())).toThrow('service name is ""');
  expect(() => registry.register('x', {} as ScriptedTransport)).toThrow('service "x" is [object Object]');
  registry.clear();
  expect(registry.list()).toEqual([]);
});
