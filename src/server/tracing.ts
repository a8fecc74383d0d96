import type { Span, SpanStatusCode, Tracer } from '@opentelemetry/api';
import type { HubFact } from '../hub/facts.ts';
import type { Observe } from './facts.ts';

/** Commands whose span is open at most; beyond it the oldest is ended without a state. */
const maxOpenSpans = 10_000;
const errorStatus: typeof SpanStatusCode.ERROR = 2;

/**
 * Facts as OpenTelemetry spans: one for each command, from acceptance to its end, below the span that its caller's
 * trace context names. Undefined where `@opentelemetry/api` is not installed; without an SDK it costs next to nothing.
 */
export async function serverTracing(): Promise<Observe | undefined> {
  const api = await import('@opentelemetry/api').catch(() => undefined);
  if (!api) return undefined;
  const tracer: Tracer = api.trace.getTracer('signalbox');
  const open = new Map<string, Span>();
  const carrier = { get: (from: { traceparent: string }) => from.traceparent, keys: () => ['traceparent'] };
  return (either) => {
    const fact = either as HubFact;
    if (fact.kind === 'command-accepted') {
      const { traceparent } = fact;
      const parent =
        traceparent === undefined
          ? api.ROOT_CONTEXT
          : api.propagation.extract(api.ROOT_CONTEXT, { traceparent }, carrier);
      const attributes = {
        'signalbox.client.id': fact.clientId,
        'signalbox.command.id': fact.commandId,
        'signalbox.command.type': fact.type,
        'signalbox.command.queued': fact.queued,
      };
      const span = tracer.startSpan(`signalbox ${fact.type}`, { kind: api.SpanKind.PRODUCER, attributes }, parent);
      // Nobody records it: there is nothing to keep.
      if (!span.isRecording()) return;
      open.set(fact.commandId, span);
      for (const [id, oldest] of open) {
        if (open.size <= maxOpenSpans) break;
        open.delete(id);
        oldest.end();
      }
    } else if (fact.kind === 'command-delivered') open.get(fact.commandId)?.addEvent('delivered');
    else if (fact.kind === 'command-ended') {
      const span = open.get(fact.commandId);
      open.delete(fact.commandId);
      span?.setAttribute('signalbox.command.state', fact.state);
      if (fact.state !== 'succeeded') span?.setStatus({ code: errorStatus, message: fact.code ?? fact.state });
      span?.end();
    }
  };
}
