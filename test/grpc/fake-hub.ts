import type { Authenticator, Principal, Scope } from '../../src/auth/principal.ts';
import { HubError } from '../../src/errors.ts';
import { PushStream } from '../../src/flow/push-stream.ts';
import type { ServedHub } from '../../src/grpc/command-service.ts';
import type { ClientInfo, Clients } from '../../src/hub/client-info.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from '../../src/hub/device-stream.ts';
import type { Command, CommandRecord, CommandUpdate } from '../../src/protocol/command.ts';
import type { UpFrame } from '../../src/protocol/frames.ts';

export const allScopes: Scope[] = ['device', 'commands:send', 'events:read', 'events:publish', 'clients:read', 'admin'];

export function principal(part: Partial<Principal> = {}): Principal {
  return { subject: 'test', tenant: 'default', scopes: new Set(allScopes), ...part };
}

/** Lets everybody be who `of` says for their token. */
export function authenticatorOf(of: (token: string | undefined) => Principal): Authenticator {
  return { authenticate: async ({ bearer }) => of(bearer) };
}

export const openAuthenticator = authenticatorOf(() => principal());

/** One stream that the fake hub was given, and what came on it. */
export class TakenStream implements DeviceStreamListener {
  readonly stream: DeviceStream;
  readonly identity: DeviceIdentity;
  readonly frames: UpFrame[] = [];
  readonly malformed: Error[] = [];
  writable = 0;
  closed = 0;
  onFrameThrows: Error | undefined;
  #changed = new Set<() => void>();

  constructor(stream: DeviceStream, identity: DeviceIdentity) {
    this.stream = stream;
    this.identity = identity;
  }

  onFrame(frame: UpFrame): void {
    if (this.onFrameThrows) throw this.onFrameThrows;
    this.frames.push(frame);
    this.#tell();
  }
  onMalformed(error: Error): void {
    this.malformed.push(error);
    this.#tell();
  }
  onWritable(): void {
    this.writable++;
    this.#tell();
  }
  onClosed(): void {
    this.closed++;
    this.#tell();
  }

  async until(isTrue: (taken: this) => boolean): Promise<void> {
    while (!isTrue(this)) await new Promise<void>((resolve) => this.#changed.add(resolve));
  }

  #tell(): void {
    for (const run of this.#changed) run();
    this.#changed.clear();
  }
}

/** A hub that does nothing but remember, for tests of the wire alone. */
export class FakeHub implements ServedHub {
  readonly taken: TakenStream[] = [];
  readonly sent: { command: Command; updates: PushStream<CommandUpdate>; left: boolean }[] = [];
  readonly cancelled: { tenant: string; commandId: string; reason: string }[] = [];
  readonly records = new Map<string, CommandRecord>();
  readonly infos = new Map<string, ClientInfo>();
  readonly listeners = new Set<(client: ClientInfo) => void>();
  isDraining = false;
  failSend: HubError | undefined;
  #waiting: (() => void)[] = [];

  readonly clients: Clients = {
    list: () => [...this.infos.values()],
    get: (_tenant, id) => this.infos.get(id),
    isConnected: (_tenant, id) => this.infos.get(id)?.connected === true,
    onChange: (_tenant, listener) => {
      this.listeners.add(listener);
      return () => this.listeners.delete(listener);
    },
    disconnect: (_tenant, id) => this.infos.get(id)?.connected === true,
  };

  accept(stream: DeviceStream, identity: DeviceIdentity): DeviceStreamListener {
    const taken = new TakenStream(stream, identity);
    this.taken.push(taken);
    this.#tell();
    return taken;
  }

  send(command: Command): AsyncIterable<CommandUpdate> {
    if (this.failSend) throw this.failSend;
    const updates = new PushStream<CommandUpdate>();
    const entry = { command, updates, left: false };
    updates.onReturn = () => {
      entry.left = true;
      this.#tell();
    };
    this.sent.push(entry);
    this.#tell();
    return updates;
  }

  watch(_tenant: string, commandId: string): AsyncIterable<CommandUpdate> {
    throw new HubError('not-found', `command ${commandId} is not known`);
  }

  async get(_tenant: string, commandId: string): Promise<CommandRecord> {
    const record = this.records.get(commandId);
    if (!record) throw new HubError('not-found', `command ${commandId} is not known`);
    return record;
  }

  async list(): Promise<CommandRecord[]> {
    return [...this.records.values()];
  }

  async cancel(tenant: string, commandId: string, reason: string): Promise<CommandUpdate> {
    this.cancelled.push({ tenant, commandId, reason });
    return { commandId, clientId: 'x', atMs: 1, state: 'sent' };
  }

  async until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #tell(): void {
    for (const run of this.#waiting.splice(0)) run();
  }
}
