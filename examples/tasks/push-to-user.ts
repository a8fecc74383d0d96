// Two users submit work by REST, and each sees the results of their own on an event stream, and nothing of the other's.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { watch } from 'signalbox/browser';
import { serve, UserFile } from 'signalbox/server';
import { countPrimes, randomNumber, reverseString } from './definitions.ts';

const data = mkdtempSync(path.join(tmpdir(), 'signalbox-push-'));
// What `signalbox users add ann` does.
const users = new UserFile(data);
for (const name of ['ann', 'bob'])
  await users.put({
    name,
    scopes: ['tasks:run', 'events:read'],
    channels: [`user.${name}`],
    password: `secret of ${name}`,
  });

const server = await serve(
  { grpc: false, http: '127.0.0.1:0', data, auth: 'jwt', logLevel: 'warn' },
  { tasks: [randomNumber, reverseString, countPrimes] },
);
const url = server.http[0]!;

async function post<Answer>(path: string, body: object, token?: string): Promise<Answer> {
  const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
  const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response.json() as Promise<Answer>;
}

async function logIn(user: string): Promise<string> {
  const { token } = await post<{ token: string }>('/v1/login', { user, password: `secret of ${user}` });
  return token;
}

const submit = (token: string, task: string, input: object) =>
  post<{ id: string }>('/v1/tasks', { task, input }, token);

/** Resolves to what the user's own channel brings, once that are so many results. */
function results(user: string, token: string, count: number): Promise<Map<string, unknown>> {
  const { promise, resolve } = Promise.withResolvers<Map<string, unknown>>();
  const seen = new Map<string, unknown>();
  const watching = watch({
    url,
    channels: [`user.${user}`],
    getToken: () => token,
    from: 'start',
    onEvent({ type, data }) {
      const { context, result } = data as { context: { runId: string; task: string }; result: unknown };
      console.log(`${user}: ${context.task} ${type.replace('task.', '')}`);
      seen.set(context.runId, result);
      if (seen.size < count) return;
      watching.close();
      resolve(seen);
    },
    onGap: () => undefined,
  });
  return promise;
}

try {
  const [ann, bob] = [await logIn('ann'), await logIn('bob')];
  const annSees = results('ann', ann, 2);
  const bobSees = results('bob', bob, 1);
  const number = await submit(ann, 'random-number', { min: 1, max: 6 });
  const primes = await submit(ann, 'count-primes', { below: 100_000 });
  const text = await submit(bob, 'reverse-string', { text: 'stressed' });
  const [ofAnn, ofBob] = await Promise.all([annSees, bobSees]);
  const die = (ofAnn.get(number.id) as { number: number }).number;
  console.log(`ann: a die between 1 and 6: ${die >= 1 && die <= 6}; primes: ${JSON.stringify(ofAnn.get(primes.id))}`);
  console.log(`bob: ${JSON.stringify(ofBob.get(text.id))}`);
  // What is the other's does not exist.
  const foreign = await fetch(`${url}/v1/tasks/${number.id}`, { headers: { authorization: `Bearer ${bob}` } });
  console.log(`bob asks for ann's run: ${foreign.status}`);
} finally {
  await server.close();
  rmSync(data, { recursive: true, force: true });
}
