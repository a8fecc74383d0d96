// An answer in tokens, as of a language model, straight to the browser; a reload in the middle goes on where it was.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { directSseResponse, initStreaming, sendResponse, sseResponse } from 'signalbox/server';
import { StreamContext } from 'signalbox/tasks';

await using _streaming = await initStreaming({ data: ':memory:' });

/** Stands for a model. */
async function* answer(): AsyncGenerator<string> {
  for (const token of 'A gap is never silent : every event comes once , or you are told which are missing .'.split(
    ' ',
  )) {
    await new Promise((resolve) => setTimeout(resolve, 15));
    yield `${token} `;
  }
}

const record = StreamContext.create({ workspaceId: 'acme', project: 'chat', env: 'dev', service: 'llm' });
const server = createServer(async (request, response) => {
  const lastEventId = request.headers['last-event-id'] as string | undefined;
  // A question begins the answer; a reload goes on with what is recorded.
  const made = lastEventId
    ? await sseResponse(record, { lastEventId })
    : await directSseResponse(answer(), { record, userId: 'ann' });
  await sendResponse(response, made);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

/** Reads a stream until `enough`; returns its text, its last id and how many events it took. */
async function read(lastEventId: string, enough: (text: string) => boolean) {
  const leave = new AbortController();
  const headers = lastEventId === '' ? {} : { 'last-event-id': lastEventId };
  const { body } = await fetch(url, { headers, signal: leave.signal });
  let [text, id, events, raw] = ['', lastEventId, 0, ''];
  for await (const chunk of body!) {
    raw += Buffer.from(chunk as Uint8Array).toString();
    const blocks = raw.split('\n\n');
    raw = blocks.pop()!;
    for (const block of blocks) {
      const data = /^event: data\ndata: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      id = /^id: (.*)$/m.exec(block)![1]!;
      text += JSON.parse(data).data.data;
      events++;
    }
    if (enough(text)) break;
  }
  leave.abort();
  return { text, id, events };
}

const first = await read('', (text) => text.includes('silent'));
console.log(`before the reload: ${first.text.trim()}`);
const second = await read(first.id, () => false);
console.log(`after it:          ${second.text.trim()}`);
console.log(
  `whole: ${first.text + second.text === (await all())}; ${first.events + second.events < 19 ? 'fewer events than tokens' : 'an event for each token'}`,
);
server.close();

async function all(): Promise<string> {
  let text = '';
  for await (const token of answer()) text += token;
  return text;
}
