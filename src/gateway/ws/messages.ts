import { opcodes, wsFrame } from './frames.ts';

const ping = wsFrame(opcodes.ping, Buffer.alloc(0));

/**
 * What an event stream says in SSE, as WebSocket frames: each event a text message
 * `{"id": cursor, "event": name, "data": {...}}`, the opening one `hub.open`, a keepalive a ping. One text is the source
 * of both, so that nothing can be said in one and not in the other.
 */
export function wsFramesOf(sse: Buffer): Buffer {
  const frames: Buffer[] = [];
  for (const block of sse.toString().split('\n\n')) {
    if (block === '') continue;
    const fields = new Map<string, string>();
    for (const line of block.split('\n')) {
      const colon = line.indexOf(': ');
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
    }
    const [id, data, retry] = [fields.get('id'), fields.get('data'), fields.get('retry')];
    const name = fields.get('event') ?? (id === undefined ? undefined : 'hub.open');
    if (name === undefined) {
      frames.push(ping);
      continue;
    }
    const parts = [
      ...(id === undefined ? [] : [`"id":${JSON.stringify(id)}`]),
      `"event":${JSON.stringify(name)}`,
      ...(retry === undefined ? [] : [`"retryMs":${Number(retry)}`]),
      // It is one line of JSON already.
      ...(data === undefined ? [] : [`"data":${data}`]),
    ];
    frames.push(wsFrame(opcodes.text, Buffer.from(`{${parts.join(',')}}`)));
  }
  return frames.length === 1 ? frames[0]! : Buffer.concat(frames);
}
