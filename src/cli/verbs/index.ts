import type { Verb } from '../run.ts';
import { device } from './device.ts';
import { send } from './send.ts';
import { serve } from './serve.ts';
import { token } from './token.ts';

/** Every verb, in the order of the help. */
export const verbs: readonly Verb[] = [serve, device, send, token];
