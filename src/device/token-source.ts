import { HubError } from '../errors.ts';
import { tokenFault } from '../protocol/checks.ts';

/** A bearer token, or what makes a fresh one for each attempt to connect. */
export type TokenSource = string | (() => string | Promise<string>);

/** Hands over a token, at once where it is fixed; or why there is none that could be sent. */
export function takeToken(
  source: TokenSource | undefined,
  onToken: (token: string | undefined) => void,
  onFault: (error: HubError) => void,
): void {
  const check = (token: string | undefined): void => {
    const fault = token === undefined ? undefined : tokenFault(token);
    if (fault === undefined) onToken(token);
    else onFault(new HubError('unauthenticated', fault));
  };
  if (typeof source !== 'function') check(source);
  else
    Promise.resolve()
      .then(source)
      .then(check, (cause: unknown) => onFault(new HubError('unavailable', 'the token could not be had', { cause })));
}
