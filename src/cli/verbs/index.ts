import type { Verb } from '../run.ts';
import { cancel } from './cancel.ts';
import { clients } from './clients.ts';
import { command } from './command.ts';
import { device } from './device.ts';
import { fleet } from './fleet.ts';
import { send } from './send.ts';
import { serve } from './serve.ts';
import { token } from './token.ts';
import { watch } from './watch.ts';

/** Every verb, in the order of the help. */
export const verbs: readonly Verb[] = [serve, device, send, fleet, clients, watch, cancel, command, token];
