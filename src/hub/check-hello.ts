import { HubError } from '../errors.ts';
import { checkClientId, checkLabels, limits } from '../protocol/checks.ts';
import { protocolVersion } from '../protocol/frames.ts';
import type { Hello } from '../protocol/gen/signalbox/v1/device.ts';
import type { DeviceIdentity } from './device-stream.ts';

/** The client id that this hello may use. Throws `invalid-argument` or `permission-denied`. */
export function checkHello(hello: Hello, { clientId: allowed }: DeviceIdentity): string {
  if (hello.protocol !== protocolVersion)
    throw new HubError('invalid-argument', `protocol ${hello.protocol} is not spoken here, ${protocolVersion} is`);
  const clientId = hello.clientId === '' && allowed !== undefined ? allowed : hello.clientId;
  checkClientId(clientId);
  if (allowed !== undefined && clientId !== allowed)
    throw new HubError('permission-denied', `client id "${clientId}" is not the credential's, "${allowed}"`);
  for (const [name, value] of [
    ['boot id', hello.bootId],
    ['journal id', hello.journalId],
  ] as const)
    if (value.length === 0 || value.length > limits.keyLength)
      throw new HubError(
        'invalid-argument',
        `${name} has ${value.length} characters, it needs 1 to ${limits.keyLength}`,
      );
  if (hello.agent.length > limits.labelLength)
    throw new HubError(
      'invalid-argument',
      `agent has ${hello.agent.length} characters, the limit is ${limits.labelLength}`,
    );
  checkLabels(hello.labels);
  return clientId;
}
