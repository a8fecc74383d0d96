// A deployment: a route makes a stream and hands it to a worker process, and the browser watches what that one does.
import { spawn } from 'node:child_process';
import path from 'node:path';
import Fastify from 'fastify';
import { initStreaming, serve, sseResponse } from 'signalbox/server';
import { StreamContext } from 'signalbox/tasks';

await using hub = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });
await using _streaming = await initStreaming({ server: hub });

const app = Fastify();
app.post('/deployments', async () => {
  const stream = StreamContext.create({ workspaceId: 'acme', project: 'shop', env: 'prod', service: 'deploy' });
  const worker = path.join(import.meta.dirname, 'deploy-worker.ts');
  spawn(process.execPath, [worker, hub.grpc[0]!, JSON.stringify(stream)], { stdio: 'inherit' });
  return { id: stream.channelId };
});
app.get<{ Params: { id: string } }>('/deployments/:id/events', ({ params, headers }) =>
  sseResponse(params.id, { lastEventId: headers['last-event-id'] as string | undefined }),
);
const url = await app.listen({ host: '127.0.0.1', port: 0 });

// What the page does.
const { id } = (await (await fetch(`${url}/deployments`, { method: 'POST' })).json()) as { id: string };
const events = await (await fetch(`${url}/deployments/${id}/events`)).text();
for (const [, type, json] of events.matchAll(/^event: (.*)\ndata: (.*)$/gm)) {
  const { context, ...data } = JSON.parse(json!).data;
  console.log(`${context.project} ${type} ${JSON.stringify(data)}`);
}
await app.close();
