import { FieldError, RequestError } from './problem.ts';

/** Deepest nesting that a body may have. */
const maxDepth = 64;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Reads a JSON body. Refuses what is no UTF-8 or no JSON, nesting beyond 64 levels, and the keys `__proto__`,
 * `constructor` and `prototype`, by which careless code can be led astray.
 */
export function parseJsonBody(bytes: Buffer): unknown {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new RequestError('malformed-request', 'the body is not UTF-8');
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message would repeat parts of the body, which may hold secrets.
    throw new RequestError('malformed-request', 'the body is not valid JSON');
  }
  checkTree(value);
  return value;
}

/** Walks without recursion: depth is what is being checked. */
function checkTree(root: unknown): void {
  const waiting: { value: unknown; path: string; depth: number }[] = [{ value: root, path: '', depth: 0 }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { value, path, depth } = next;
    if (typeof value !== 'object' || value === null) continue;
    if (depth === maxDepth) {
      const field = path.split('.', 1)[0]!;
      throw new FieldError(field, `"${field}" is nested more than ${maxDepth} levels deep`);
    }
    for (const key of Object.keys(value)) {
      const inner = path === '' ? key : `${path}.${key}`;
      if (key === '__proto__' || key === 'constructor' || key === 'prototype')
        throw new FieldError(inner.slice(0, 200), `the field name "${key}" is not allowed`);
      const child: unknown = value[key as keyof typeof value];
      if (typeof child === 'object' && child !== null) waiting.push({ value: child, path: inner, depth: depth + 1 });
    }
  }
}
