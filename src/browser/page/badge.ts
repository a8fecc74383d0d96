import type { WatchState } from '../watch-types.ts';
import { byId } from './dom.ts';

const caughtUpMs = 4000;

/** The word on the connection, in the corner of the page. */
export class Badge {
  readonly #element = byId('badge', HTMLElement);
  #wasCut = false;
  #timer = 0;
  #retryAt = 0;

  show(state: WatchState): void {
    clearTimeout(this.#timer);
    switch (state.kind) {
      case 'connecting':
        this.#say('connecting', 'Connecting');
        break;
      case 'live':
        if (!this.#wasCut) {
          this.#say('live', 'Live');
          break;
        }
        // What was missed comes at once after the connection is there again.
        this.#wasCut = false;
        this.#say('caught-up', 'Caught up');
        this.#timer = window.setTimeout(() => this.#say('live', 'Live'), caughtUpMs);
        break;
      case 'reconnecting':
        if (state.problem.status === 401) {
          this.#say('token', 'Waiting for a token');
          break;
        }
        this.#wasCut = true;
        this.#retryAt = Date.now() + state.inMs;
        this.#countDown(state.problem.message);
        break;
      case 'closed':
        if (state.reason === 'failed') this.#say('failed', 'Not connected', state.problem.message);
        else this.#say('closed', 'Closed');
        break;
      default:
        state satisfies never;
    }
  }

  #countDown(why: string): void {
    const seconds = Math.ceil((this.#retryAt - Date.now()) / 1000);
    this.#say('reconnecting', 'Reconnecting', seconds > 0 ? `${why}. Trying again in ${seconds} s` : why);
    if (seconds > 0) this.#timer = window.setTimeout(() => this.#countDown(why), 1000);
  }

  #say(state: string, text: string, title = ''): void {
    this.#element.dataset.state = state;
    this.#element.title = title;
    // A status that says the same again would be read out again.
    if (this.#element.textContent !== text) this.#element.textContent = text;
  }
}
