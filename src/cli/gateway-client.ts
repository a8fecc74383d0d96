import type { Command } from 'commander';
import { HubError, type HubErrorCode } from '../errors.ts';
import { Backoff } from '../flow/backoff.ts';
import { readText } from './arguments.ts';
import type { Outside } from './terminal.ts';
import { pause } from './waiting.ts';

/** How to reach a gateway: the options of the verbs that talk to one. */
export interface GatewayOptions {
  url?: string;
  tokenFile?: string;
}

export function withGatewayOptions(command: Command): Command {
  return command
    .option('--url <url>', 'the gateway (default: SIGNALBOX_URL or http://127.0.0.1:8080)')
    .option('--token-file <file>', 'file with a token (default: SIGNALBOX_TOKEN)');
}

/** An event of a stream. */
export interface StreamedEvent {
  readonly type: string;
  readonly at: string;
  readonly data: unknown;
  readonly cursor: string;
}

/** A gateway over HTTP. Its problems become `HubError`s with their code. */
export class GatewayClient {
  readonly #url: string;
  readonly #token: string | undefined;

  /** Throws `invalid-argument` for a URL that is none, or a file that cannot be read. */
  constructor(options: GatewayOptions, { env }: Outside) {
    const url = options.url ?? (env.SIGNALBOX_URL || 'http://127.0.0.1:8080');
    if (!URL.canParse(url) || !/^https?:/.test(url))
      throw new HubError('invalid-argument', `${url} is not an http(s) URL`);
    this.#url = url.replace(/\/$/, '');
    const token = options.tokenFile === undefined ? env.SIGNALBOX_TOKEN : readText(options.tokenFile);
    this.#token = token?.trim() || undefined;
  }

  async call<Answer>(method: 'GET' | 'POST', path: string, body?: unknown, signal?: AbortSignal): Promise<Answer> {
    const response = await this.#fetch(path, {
      method,
      signal,
      ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    return (await response.json()) as Answer;
  }

  /** The events of a stream to its end, over losses of the gateway: a missing event is told as `hub.gap` or `hub.reset`. */
  async *events(path: string, signal: AbortSignal): AsyncGenerator<StreamedEvent> {
    const backoff = new Backoff({ maxMs: 10_000 });
    let cursor = '';
    let wasOpen = false;
    while (!signal.aborted) {
      try {
        const headers = { accept: 'text/event-stream', ...(cursor && { 'last-event-id': cursor }) };
        const response = await this.#fetch(path, { signal, headers });
        if (response.status === 204) return;
        wasOpen = true;
        for await (const event of readEvents(response)) {
          backoff.reset();
          cursor = event.cursor || cursor;
          yield event;
        }
      } catch (error) {
        if (signal.aborted) return;
        // Only a gateway that has answered before is waited for.
        if (!(error instanceof HubError && error.code === 'unavailable' && wasOpen)) throw error;
      }
      await pause(100 + backoff.next(), signal);
    }
  }

  async #fetch(
    path: string,
    init: Omit<RequestInit, 'signal'> & { signal?: AbortSignal | undefined },
  ): Promise<Response> {
    const { signal, headers, ...rest } = init;
    const authorization = this.#token && { authorization: `Bearer ${this.#token}` };
    let response: Response;
    try {
      response = await fetch(this.#url + path, {
        ...rest,
        headers: { ...headers, ...authorization },
        signal: signal ?? null,
      });
    } catch (error) {
      const why = (error as Error).cause instanceof Error ? ((error as Error).cause as Error).message : String(error);
      throw new HubError('unavailable', `the gateway at ${this.#url} cannot be reached: ${why}`, { cause: error });
    }
    if (response.ok) return response;
    const problem = (await response.json().catch(() => ({}))) as { code?: HubErrorCode; detail?: string };
    throw new HubError(problem.code ?? 'unavailable', problem.detail ?? `${this.#url} answers ${response.status}`);
  }
}

async function* readEvents({ body }: Response): AsyncGenerator<StreamedEvent> {
  if (!body) return;
  let text = '';
  let cursor = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of body) {
      text += decoder.decode(chunk as Uint8Array, { stream: true });
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const fields = new Map(
          text
            .slice(0, end)
            .split('\n')
            .map((line) => /^(\w+): ?(.*)$/.exec(line))
            .flatMap((found) => (found ? [[found[1]!, found[2]!] as const] : [])),
        );
        text = text.slice(end + 2);
        cursor = fields.get('id') ?? cursor;
        const json = fields.get('data');
        if (json === undefined) continue;
        const parsed = JSON.parse(json) as { type?: string; at?: string; data?: unknown };
        const isOurs = fields.get('event')?.startsWith('hub.') && parsed.type === undefined;
        if (isOurs) yield { type: fields.get('event')!, at: '', data: parsed, cursor };
        else yield { type: parsed.type ?? 'message', at: parsed.at ?? '', data: parsed.data, cursor };
      }
    }
  } catch (error) {
    throw new HubError('unavailable', `the stream was cut: ${String(error)}`, { cause: error });
  }
}
