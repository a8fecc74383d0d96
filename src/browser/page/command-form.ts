import { cancelCommand, commandUpdates } from '../commands.ts';
import { HubProblem } from '../problem.ts';
import type { RequestOptions } from '../requests.ts';
import { byId, element } from './dom.ts';
import { Updates } from './updates.ts';

/** Methods of the example pump, to begin with. Any other method can be typed. */
const examples: Record<string, unknown> = {
  // Slow enough for a pump whose limit was lowered as the documentation's examples do.
  start: { rpm: 600 },
  stop: {},
  configUpdate: { config: { maxRpm: 4000 } },
  tailLog: { lines: 5, intervalMs: 500 },
};

/** The form that sends a command, and shows what becomes of it. */
export class CommandForm {
  readonly #form = byId('command-form', HTMLFormElement);
  readonly #client = byId('client', HTMLInputElement);
  readonly #method = byId('method', HTMLInputElement);
  readonly #payload = byId('payload', HTMLTextAreaElement);
  readonly #queue = byId('queue', HTMLInputElement);
  readonly #send = byId('send', HTMLButtonElement);
  readonly #cancel = byId('cancel', HTMLButtonElement);
  readonly #problem = byId('command-problem', HTMLElement);
  readonly #quick = byId('quick', HTMLElement);
  readonly #updates = new Updates();
  readonly #request: RequestOptions;
  #commandId: string | undefined;

  constructor(request: RequestOptions) {
    this.#request = request;
    byId('methods', HTMLDataListElement).append(...Object.keys(examples).map((value) => element('option', { value })));
    for (const name of Object.keys(examples)) {
      const button = element('button', { type: 'button' }, name);
      button.addEventListener('click', () => this.#choose(name));
      this.#quick.append(button);
    }
    this.#choose('start');
    this.#method.addEventListener('input', () => this.#markChosen());
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#run();
    });
    this.#payload.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) this.#form.requestSubmit();
    });
    this.#cancel.addEventListener('click', () => void this.#ask());
  }

  /** The device that the next command is for. */
  aim(clientId: string): void {
    this.#client.value = clientId;
  }

  #choose(method: string): void {
    this.#method.value = method;
    this.#payload.value = JSON.stringify(examples[method], null, 2);
    this.#markChosen();
  }

  #markChosen(): void {
    for (const button of this.#quick.querySelectorAll('button'))
      button.setAttribute('aria-pressed', String(button.textContent === this.#method.value));
  }

  async #run(): Promise<void> {
    if (this.#send.disabled) return;
    this.#complain('', undefined);
    const clientId = this.#client.value.trim();
    const method = this.#method.value.trim();
    if (clientId === '') return this.#complain('Which device is it for?', this.#client);
    if (method === '') return this.#complain('Which method?', this.#method);
    let payload: unknown;
    try {
      payload = this.#payload.value.trim() === '' ? {} : JSON.parse(this.#payload.value);
    } catch (error) {
      return this.#complain(`The payload is not JSON: ${(error as Error).message}`, this.#payload);
    }

    this.#send.disabled = true;
    this.#updates.begin();
    try {
      const whenOffline = this.#queue.checked ? 'queue' : 'fail';
      for await (const update of commandUpdates({ ...this.#request, clientId, method, payload, whenOffline })) {
        this.#commandId = update.commandId;
        this.#cancel.hidden = false;
        this.#updates.add(update);
      }
    } catch (error) {
      if (!(error instanceof HubProblem)) throw error;
      if (this.#commandId === undefined) this.#complain(error.message, undefined);
      else this.#updates.problem(error.message);
    } finally {
      this.#send.disabled = false;
      this.#cancel.hidden = true;
      this.#commandId = undefined;
    }
  }

  async #ask(): Promise<void> {
    if (this.#commandId === undefined) return;
    try {
      await cancelCommand({ ...this.#request, commandId: this.#commandId, reason: 'cancelled from the page' });
    } catch (error) {
      this.#complain(error instanceof Error ? error.message : String(error), undefined);
    }
  }

  #complain(text: string, field: HTMLElement | undefined): void {
    this.#problem.textContent = text;
    for (const each of [this.#client, this.#method, this.#payload])
      each.setAttribute('aria-invalid', String(each === field));
    field?.focus();
  }
}
