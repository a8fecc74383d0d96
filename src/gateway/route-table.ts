/** Which methods each path has, for 405 and OPTIONS: the router itself answers only "not found". */
export class RouteTable {
  readonly #routes = new Map<string, { pattern: RegExp; methods: Set<string> }>();

  add(methods: readonly string[], url: string): void {
    let route = this.#routes.get(url);
    if (route === undefined) {
      route = { pattern: patternOf(url), methods: new Set(['OPTIONS']) };
      this.#routes.set(url, route);
    }
    for (const method of methods) route.methods.add(method);
  }

  /** For the header Allow; undefined where there is nothing at all. */
  methodsOf(path: string): string | undefined {
    for (const { pattern, methods } of this.#routes.values())
      if (pattern.test(path)) return [...methods].sort().join(', ');
    return undefined;
  }
}

function patternOf(url: string): RegExp {
  const parts = url.split('/').map((part) => {
    if (part.startsWith(':')) return '[^/]+';
    return part === '*' ? '.*' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  });
  return new RegExp(`^${parts.join('/')}$`);
}
