import type { TerminalState } from '../protocol/command.ts';
import type { DeviceState } from './device-state.ts';

/** What a device tells whoever observes it. Contains no secrets and no payloads. */
export type DeviceFact =
  | { readonly kind: 'state-changed'; readonly state: DeviceState }
  /** The hub has announced that it will close. */
  | { readonly kind: 'drain-announced'; readonly reconnectInMs: number }
  /** An attempt to connect has failed, or a stream has ended. */
  | { readonly kind: 'stream-ended'; readonly reason: string; readonly error: Error | undefined }
  | {
      readonly kind: 'command-ended';
      readonly commandId: string;
      readonly type: string;
      readonly state: TerminalState;
      /** The error's code, where there is one. */
      readonly code: string | undefined;
    }
  /** A handler threw something that is not a `CommandRejected`. */
  | { readonly kind: 'handler-failed'; readonly commandId: string; readonly type: string; readonly error: unknown }
  /** An event was not taken by the buffer, or not acknowledged before the device was closed. */
  | { readonly kind: 'event-dropped'; readonly name: string; readonly reason: string }
  /** The journal could not write something down. */
  | { readonly kind: 'journal-failed'; readonly commandId: string | undefined; readonly error: unknown }
  /** `close()` waited no longer: for handlers that still run, and for frames (events, results) that the hub has not acknowledged. */
  | { readonly kind: 'closed-early'; readonly running: number; readonly unacknowledged: number }
  /** A listener of `onStateChange` threw. */
  | { readonly kind: 'listener-failed'; readonly error: unknown };

/** Calls an observer. What it throws is its own bug: it becomes a warning of the process and harms nobody. */
export function tell<F>(observe: ((fact: F) => void) | undefined, fact: F): void {
  if (!observe) return;
  try {
    observe(fact);
  } catch (error) {
    process.emitWarning(`an observer of a Signalbox device threw: ${String(error)}`, 'SignalboxObserverWarning');
  }
}
