// The page that a hub serves at `/`: its devices, a command and what becomes of it, and what happens.
import { listClients } from '../clients.ts';
import { HubProblem } from '../problem.ts';
import type { RequestOptions } from '../requests.ts';
import { type Watch, watch } from '../watch.ts';
import { Badge } from './badge.ts';
import { CommandForm } from './command-form.ts';
import { DeviceList } from './devices.ts';
import { byId } from './dom.ts';
import { Feed } from './feed.ts';
import { TokenField } from './token-field.ts';

// The page may stand below a path of a proxy.
const url = new URL('.', document.baseURI).href.replace(/\/$/, '');
const refreshMs = 5000;
// Somebody is looking: a browser tab tries again sooner than a program should.
const backoff = { maxMs: 5000 };

const { getToken } = new TokenField();
const request: RequestOptions = { url, getToken };
const badge = new Badge();
const feed = new Feed();
const form = new CommandForm(request);
const devices = new DeviceList((clientId) => {
  form.aim(clientId);
  watchClient(clientId);
});

let clientWatch: Watch | undefined;
let isRefreshing = false;
let isStale = false;

watch({
  url,
  getToken,
  backoff,
  channels: ['fleet'],
  onEvent: (event) => {
    feed.event(event);
    void refresh();
  },
  onGap: (gap) => feed.gap(gap),
  onReset: (reset) => feed.reset(reset),
  onState: (state) => {
    badge.show(state);
    if (state.kind === 'live') void refresh();
  },
});
// Round trips and times change without an event.
setInterval(() => {
  if (document.visibilityState === 'visible') void refresh();
}, refreshMs);

/** Asks for the list again; asked while it is asked for, once more after it. */
async function refresh(): Promise<void> {
  isStale = true;
  if (isRefreshing) return;
  isRefreshing = true;
  try {
    while (isStale) {
      isStale = false;
      devices.show(await listClients(request));
    }
  } catch (error) {
    // The badge says that the hub is away; anything else is worth a look in the browser's console.
    if (!(error instanceof HubProblem) || error.status !== 0) console.warn(error);
  } finally {
    isRefreshing = false;
  }
}

function watchClient(clientId: string): void {
  clientWatch?.close();
  const channel = `client.${clientId}`;
  byId('feed-channels', HTMLElement).textContent = `fleet, ${channel}`;
  clientWatch = watch({
    url,
    getToken,
    backoff,
    channels: [channel],
    onEvent: (event) => feed.event(event),
    onGap: (gap) => feed.gap(gap),
    onReset: (reset) => feed.reset(reset),
    onState: (state) => {
      if (state.kind === 'closed' && state.reason === 'failed') console.warn(state.problem);
    },
  });
}
