import type { GetToken } from '../watch-types.ts';
import { byId } from './dom.ts';

const key = 'signalbox-token';

/** Asks for a token when the hub wants one, and keeps it for this tab. */
export class TokenField {
  readonly #form = byId('token-form', HTMLFormElement);
  readonly #input = byId('token', HTMLInputElement);
  readonly #problem = byId('token-problem', HTMLElement);
  #asking: Promise<string> | undefined;

  readonly getToken: GetToken = async ({ refused, refusedToken }) => {
    const kept = sessionStorage.getItem(key) ?? undefined;
    // Another request may have been given a new one meanwhile.
    if (refused === undefined || kept !== refusedToken) return kept;
    this.#problem.textContent = refusedToken === undefined ? '' : refused.message;
    this.#asking ??= this.#ask();
    return this.#asking;
  };

  #ask(): Promise<string> {
    this.#form.hidden = false;
    this.#input.value = '';
    this.#input.focus();
    return new Promise((resolve) => {
      const submit = (event: SubmitEvent) => {
        event.preventDefault();
        const token = this.#input.value.trim();
        if (token === '') return;
        sessionStorage.setItem(key, token);
        this.#form.removeEventListener('submit', submit);
        this.#form.hidden = true;
        this.#asking = undefined;
        resolve(token);
      };
      this.#form.addEventListener('submit', submit);
    });
  }
}
