import { Deque } from '../flow/deque.ts';
import type { Job } from './job.ts';

/** Jobs that may start, in order of arrival. Of those with the same key only one at a time is here or runs. */
export class Ready {
  readonly #jobs = new Deque<Job>();
  // For each key that is taken: who has it, and who waits for it.
  readonly #keys = new Map<string, { holder: Job; behind: Deque<Job> }>();

  get first(): Job | undefined {
    return this.#jobs.first;
  }

  add(job: Job): void {
    if (job.key === '') {
      this.#jobs.push(job);
      return;
    }
    const taken = this.#keys.get(job.key);
    if (taken) taken.behind.push(job);
    else {
      this.#keys.set(job.key, { holder: job, behind: new Deque() });
      this.#jobs.push(job);
    }
  }

  /** Takes out the first; it keeps its key until `done`. */
  shift(): Job | undefined {
    return this.#jobs.shift();
  }

  /** Takes out a job that waits. */
  remove(job: Job): void {
    if (!this.#jobs.remove(job)) this.#keys.get(job.key)?.behind.remove(job);
    this.done(job);
  }

  /** Frees the key of a job, if it has it, for the next. */
  done(job: Job): void {
    const taken = this.#keys.get(job.key);
    if (taken?.holder !== job) return;
    const next = taken.behind.shift();
    if (!next) {
      this.#keys.delete(job.key);
      return;
    }
    taken.holder = next;
    const jobs = [...this.#jobs];
    const place = jobs.findIndex(({ position }) => position > next.position);
    if (place < 0) {
      this.#jobs.push(next);
      return;
    }
    this.#jobs.clear();
    for (const other of [...jobs.slice(0, place), next, ...jobs.slice(place)]) this.#jobs.push(other);
  }
}
