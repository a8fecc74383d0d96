import { type RequestOptions, request } from './requests.ts';

/** A device, as the hub knows it. */
export interface Client {
  readonly id: string;
  /** Whether it holds a live stream now. */
  readonly connected: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly epoch: number;
  /** Times are ISO 8601, by the hub's clock. */
  readonly connectedAt?: string;
  readonly lastSeenAt?: string;
  readonly roundTripMs?: number;
  /** Commands that have not ended. */
  readonly pendingCommands: number;
  readonly node: string;
  readonly agent: string;
  readonly peer: string;
}

export interface ListClientsOptions extends RequestOptions {
  /** Only clients that have all of these. */
  labels?: Readonly<Record<string, string>>;
  /** Only clients with a live stream. */
  connectedOnly?: boolean;
}

/** The clients that the hub knows. Throws a `HubProblem`. */
export async function listClients(options: ListClientsOptions = {}): Promise<Client[]> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options.labels ?? {})) query.append('label', `${name}:${value}`);
  if (options.connectedOnly) query.set('connected', 'true');
  const path = query.size === 0 ? '/v1/clients' : `/v1/clients?${query}`;
  const { clients } = await request<{ clients: Client[] }>('GET', path, undefined, options);
  return clients;
}
