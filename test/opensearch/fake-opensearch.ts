import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Doc {
  readonly '@timestamp': string;
  readonly id: string;
  readonly tenant: string;
  readonly channel: string;
  readonly type: string;
  readonly data: string;
}
type Clause = Record<string, never>;

/** As much of OpenSearch as the archive uses, in memory; what it does not understand it refuses, as the real one does. */
export async function fakeOpenSearch() {
  const docs = new Map<string, Doc>();
  const requests: {
    method: string;
    path: string;
    authorization: string | undefined;
    headers: IncomingHttpHeaders;
    body: string;
  }[] = [];
  /** Answers the next requests with these, instead of doing them. */
  const script: { status: number; body?: object }[] = [];

  const isMatch = (doc: Doc, clause: Clause): boolean => {
    const [[kind, inner]] = Object.entries(clause) as unknown as [[string, Record<string, never>]];
    const [[field, value]] = Object.entries(inner) as unknown as [[keyof Doc, never]];
    switch (kind) {
      case 'term':
        return doc[field] === value;
      case 'terms':
        return (value as string[]).includes(doc[field]);
      case 'prefix':
        return doc[field].startsWith(value);
      case 'range': {
        const { gte = -Infinity, lt = Infinity, format } = value as { gte?: number; lt?: number; format: string };
        if (format !== 'epoch_millis') throw new Error('format');
        return Date.parse(doc[field]) >= gte && Date.parse(doc[field]) < lt;
      }
      case 'wildcard': {
        const { value: pattern, case_insensitive: isLoose } = value as { value: string; case_insensitive: boolean };
        const source = pattern.replaceAll(/\\([\\*?])|[.+^${}()|[\]]|\*|\?/g, (found, escaped) =>
          escaped ? `\\${escaped}` : found === '*' ? '.*' : found === '?' ? '.' : `\\${found}`,
        );
        return new RegExp(`^${source}$`, isLoose ? 'is' : 's').test(doc[field]);
      }
      case 'bool': {
        const { should, minimum_should_match } = inner as unknown as { should: Clause[]; minimum_should_match: number };
        return should.filter((each) => isMatch(doc, each)).length >= minimum_should_match;
      }
      default:
        throw new Error(`unknown query [${kind}]`);
    }
  };

  const answer = (method: string, path: string, type: string, body: string): { status: number; body: object } => {
    if (method === 'PUT' && /^\/(_index_template|_plugins\/_ism\/policies)\/stream_events$/.test(path))
      return { status: 200, body: { acknowledged: Boolean(JSON.parse(body)) } };
    if (method === 'POST' && path === '/stream_events-events/_bulk') {
      if (!body.endsWith('\n') || !/ndjson/.test(type))
        return { status: 400, body: { error: 'must end with a newline' } };
      const lines = body.trimEnd().split('\n');
      const items = [];
      for (let i = 0; i < lines.length; i += 2) {
        const { create } = JSON.parse(lines[i]!) as { create: { _id: string } };
        const isKnown = docs.has(create._id);
        if (!isKnown) docs.set(create._id, JSON.parse(lines[i + 1]!));
        items.push({ create: { _id: create._id, status: isKnown ? 409 : 201 } });
      }
      return { status: 200, body: { errors: items.some(({ create }) => create.status > 299), items } };
    }
    if (method === 'POST' && path === '/stream_events-events/_search') {
      const search = JSON.parse(body) as {
        size: number;
        query: { bool: { filter: Clause[] } };
        sort: object[];
        search_after?: [number, string];
      };
      if (JSON.stringify(search.sort) !== '[{"@timestamp":"desc"},{"id":"desc"}]')
        return { status: 400, body: { error: 'sort' } };
      const found = [...docs.values()]
        .filter((doc) => search.query.bool.filter.every((clause) => isMatch(doc, clause)))
        .map((doc) => ({ _source: doc, sort: [Date.parse(doc['@timestamp']), doc.id] as [number, string] }))
        .sort((a, b) => b.sort[0] - a.sort[0] || (b.sort[1] < a.sort[1] ? -1 : 1))
        .filter(({ sort }) => {
          const place = search.search_after;
          return !place || sort[0] < place[0] || (sort[0] === place[0] && sort[1] < place[1]);
        });
      return { status: 200, body: { hits: { hits: found.slice(0, search.size) } } };
    }
    return { status: 404, body: { error: { type: 'index_not_found_exception', reason: path } } };
  };

  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { method = '', url = '' } = request;
    const { headers } = request;
    requests.push({ method, path: url, authorization: headers.authorization, headers, body });
    let made: { status: number; body?: object };
    try {
      made = script.shift() ?? answer(method, url, request.headers['content-type'] ?? '', body);
    } catch (error) {
      made = { status: 400, body: { error: { type: 'parsing_exception', reason: String(error) } } };
    }
    response.writeHead(made.status, { 'content-type': 'application/json' }).end(JSON.stringify(made.body ?? {}));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    node: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    script,
    docs,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
