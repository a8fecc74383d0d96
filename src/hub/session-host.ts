import type { TimingWheel } from '../flow/timing-wheel.ts';
import type { UpBody } from '../protocol/frames.ts';
import type { Hello } from '../protocol/gen/signalbox/v1/device.ts';
import type { CloseReason } from './facts.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import type { Session } from './session.ts';

/** Frames from a device that carry a number. */
export type NumberedBody = Extract<UpBody, { $case: 'started' | 'progress' | 'result' | 'event' }>;

/** What a session needs of the hub. */
export interface SessionHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  /** Decides about a hello: opens the session, or ends it. */
  open(session: Session, hello: Hello): void;
  /** Called once, however the session ended. */
  closed(session: Session, wasOpen: boolean, reason: CloseReason, message: string): void;
  /** The device has acknowledged a command. */
  readonly delivered: (pending: PendingCommand) => void;
  /** Takes over what a device tells; a promise when that takes a store. False: not taken over, to be told again. */
  take(session: Session, body: NumberedBody): Promise<boolean> | undefined;
  measured(session: Session, roundTripMs: number): void;
  /** An acknowledgement is due soon, unless another frame carries it. */
  owesAcknowledgement(session: Session, isUrgent: boolean): void;
}
