// The worker of deploy.ts: a process of its own, which is handed a stream as JSON and tells what it does.
import { initStreaming } from 'signalbox/server';
import { StreamContext } from 'signalbox/tasks';

const [address = '', handedOver = ''] = process.argv.slice(2);

await using _streaming = await initStreaming({ address });
const stream = StreamContext.fromJSON(handedOver);
const servers = ['10.0.0.1', '10.0.0.2'];
await stream.deployStart('production', servers.length);
for (const [i, ip] of servers.entries()) {
  stream.log(`pushing the image to ${ip}`);
  await stream.progress(((i + 1) / servers.length) * 100, `server ${i + 1}`);
  await stream.deploySuccess(ip, `web-${i + 1}`, `https://web-${i + 1}.example.com`);
}
await stream.complete(true, undefined, { servers: servers.length });
