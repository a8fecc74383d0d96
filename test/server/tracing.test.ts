import { propagation, SpanStatusCode, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { afterAll, expect, test } from 'vitest';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { serverTracing } from '../../src/server/tracing.ts';
import { collect, scriptedDevice, testCommand } from '../../src/testing/index.ts';

const exporter = new InMemorySpanExporter();
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
propagation.setGlobalPropagator(new W3CTraceContextPropagator());

afterAll(() => {
  trace.disable();
  propagation.disable();
});

const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

test("a command is a span below its caller's, and its trace context reaches the device", async () => {
  exporter.reset();
  const observe = await serverTracing();
  await using hub = new Hub({ observe, commands: memoryCommandStore() });
  const device = scriptedDevice(hub);
  await device.hello();
  const updates = collect(hub.send(testCommand({ traceparent })));
  const command = await device.command();
  expect(command.traceparent).toBe(traceparent);
  device.end(command.id, 'failed', 'jammed');
  await updates;
  expect(exporter.getFinishedSpans()).toMatchObject([
    {
      name: 'signalbox test.Do',
      parentSpanContext: { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' },
      attributes: { 'signalbox.client.id': 'pump-7', 'signalbox.command.state': 'failed' },
      events: [{ name: 'delivered' }],
      status: { code: SpanStatusCode.ERROR, message: 'jammed' },
    },
  ]);
});

test('a command without trace context begins a trace of its own', async () => {
  exporter.reset();
  const observe = await serverTracing();
  await using hub = new Hub({ observe });
  const device = scriptedDevice(hub);
  await device.hello();
  const updates = collect(hub.send(testCommand()));
  device.succeed((await device.command()).id);
  await updates;
  const [span] = exporter.getFinishedSpans();
  expect(span?.parentSpanContext).toBeUndefined();
  expect(span?.status.code).toBe(SpanStatusCode.UNSET);
});
