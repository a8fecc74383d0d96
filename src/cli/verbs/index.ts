import type { Verb } from '../run.ts';
import { bench } from './bench.ts';
import { cancel } from './cancel.ts';
import { clients } from './clients.ts';
import { command } from './command.ts';
import { device } from './device.ts';
import { doctor } from './doctor.ts';
import { events } from './events.ts';
import { fleet } from './fleet.ts';
import { nodes } from './nodes.ts';
import { send } from './send.ts';
import { serve } from './serve.ts';
import { simulate } from './simulate.ts';
import { task } from './task.ts';
import { token } from './token.ts';
import { users } from './users.ts';
import { watch } from './watch.ts';

/** Every verb, in the order of the help. */
export const verbs: readonly Verb[] = [
  serve,
  device,
  send,
  fleet,
  clients,
  nodes,
  watch,
  events,
  cancel,
  command,
  task,
  token,
  users,
  doctor,
  simulate,
  bench,
];
