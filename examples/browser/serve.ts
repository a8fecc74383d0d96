// Serves the two pages beside it from an origin of their own, with a hub that lets them in, and two pumps to watch.
//
//   node examples/browser/serve.ts
//
// Prints where the pages are. Ctrl-C ends it.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from 'signalbox/server';
import { connectPump } from '../support.ts';

let hubUrl = '';
const pages = createServer((request, response) => {
  const name = { '/': 'index.html', '/native.html': 'native.html' }[request.url ?? ''];
  if (name === undefined) return void response.writeHead(404).end('there are / and /native.html');
  const html = readFileSync(new URL(name, import.meta.url), 'utf8');
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  return void response.end(html.replaceAll('http://127.0.0.1:8080', hubUrl));
});
pages.listen(0, '127.0.0.1');
await once(pages, 'listening');
const origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;

// The hub answers pages of other origins only when they are named.
const server = await serve({
  grpc: '127.0.0.1:0',
  http: '127.0.0.1:0',
  data: ':memory:',
  origins: [origin],
  logLevel: 'error',
});
hubUrl = server.http[0]!;
const pumps = await Promise.all(
  ['pump-1', 'pump-2'].map((clientId) => connectPump({ address: server.grpc[0]!, clientId, temperatureEveryMs: 2000 })),
);
console.log(`signalbox/browser:  ${origin}/`);
console.log(`native EventSource: ${origin}/native.html`);

for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, async () => {
    pages.close();
    pages.closeAllConnections();
    await Promise.all(pumps.map((pump) => pump.close()));
    await server.close();
  });
