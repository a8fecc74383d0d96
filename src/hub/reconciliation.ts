import type { Client } from './client.ts';
import type { CommandLife } from './command-life.ts';
import { PendingCommand } from './pending-command.ts';
import type { Session } from './session.ts';

export interface ReconciliationHost {
  readonly life: CommandLife;
  write(session: Session, pending: PendingCommand, seq?: number): void;
}

type Verdict = 'wait' | 'again' | 'cancelled' | 'unknown';

/** What becomes of commands that were on their way to a device when its last stream ended. */
export class Reconciliation {
  readonly #host: ReconciliationHost;

  constructor(host: ReconciliationHost) {
    this.#host = host;
  }

  /** The session goes on: the device is given again what it has not acknowledged. */
  onResume(session: Session): void {
    for (const { seq, frame } of session.lineage.outbox.unacknowledged())
      if (frame instanceof PendingCommand) this.#host.write(session, frame, seq);
      else session.send(seq, frame);
  }

  /** A new session: each command that was out is waited for, sent again, or given up, by what the device's journal says. */
  onNewSession(session: Session, client: Client): void {
    const verdicts = [...client.inFlight]
      .filter(({ isEnding }) => !isEnding)
      .map((pending) => ({ pending, verdict: this.#verdict(pending, session) }));
    // First in line before anything ends: an end makes room in the window, and the next command takes it at once.
    client.resend.clear();
    client.resend.unshift(verdicts.filter(({ verdict }) => verdict === 'again').map(({ pending }) => pending));
    for (const { pending, verdict } of verdicts) if (verdict !== 'again') this.#settle(pending, verdict, client);
  }

  /** Whether this one is to be sent again; otherwise it is waited for, or ends. */
  isToBeSent(pending: PendingCommand, session: Session, client: Client): boolean {
    const verdict = this.#verdict(pending, session);
    if (verdict !== 'again') this.#settle(pending, verdict, client);
    return verdict === 'again';
  }

  /** What to do with a command that was on its way to the device when an earlier stream ended. */
  #verdict(pending: PendingCommand, session: Session): Verdict {
    if (session.begun.has(pending.id)) return 'wait';
    const isSurelyNotBegun =
      pending.journal === undefined || (pending.journal === session.journalId && !pending.isStarted);
    const mayRunAgain = isSurelyNotBegun || pending.command.idempotent;
    if (!mayRunAgain) return 'unknown';
    return pending.cancelReason === undefined ? 'again' : 'cancelled';
  }

  /** Carries out the verdict on one command that is not to be sent again. */
  #settle(pending: PendingCommand, verdict: Exclude<Verdict, 'again'>, client: Client): void {
    const { life } = this.#host;
    if (verdict === 'wait') {
      if (pending.place !== 'in-flight') client.inFlight.push(pending);
      pending.place = 'in-flight';
      if (pending.cancelReason !== undefined) client.cancel(pending, pending.cancelReason);
    } else if (verdict === 'cancelled')
      void life.endWith(pending, 'cancelled', { code: 'cancelled', message: pending.cancelReason ?? '' });
    else
      void life.endWith(pending, 'unknown', {
        code: 'outcome-unknown',
        message: 'the device came back without its journal; the command was sent and may have been run',
      });
  }
}
