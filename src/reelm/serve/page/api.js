// Speaks to the service, with a key where it asks for one. Events wait in an outbox until the
// service has them; ids make resending harmless.

import { key, wanted } from "./keys.js";

const OUTBOX = "reelm.outbox";
const BATCH = 200;
const TRIES = 3; // of a request that the service has no time for

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

const signed = (options = {}) => ({
  ...options,
  headers: { ...options.headers, ...(key() && { "x-api-key": key() }) },
});

export async function ask(path, options) {
  let sent = key();
  let answer = await fetch(path, signed(options));
  for (let tries = 1; answer.status === 401 || answer.status === 503; ) {
    if (answer.status === 503) {
      if (tries++ === TRIES) break;
      await pause(Number(answer.headers.get("retry-after") ?? 1));
    } else if (sent === key()) {
      await wanted(); // unless another request has got a new key in the meantime
    }
    sent = key();
    answer = await fetch(path, signed(options));
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(body.error ?? `the service answered ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return body;
}

export function feed(user, { n, cursor, again }) {
  const query = new URLSearchParams({ n });
  if (cursor) query.set("cursor", cursor);
  if (again) query.set("again", "true");
  return ask(`/v1/feed/${encodeURIComponent(user)}?${query}`);
}

export const video = (id) => ask(`/v1/videos/${encodeURIComponent(id)}`);

export const users = (n) => ask(`/v1/users?n=${n}`);

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  constructor(onSent = () => {}) {
    this.onSent = onSent;
    this.waiting = read();
    this.sending = Promise.resolve();
  }

  add(event) {
    const whole = { event_id: newId(), timestamp: Date.now() / 1000, ...event };
    this.waiting.push(whole);
    this.save();
    this.onSent(whole);
  }

  // Send all that waits, in order; resolves when nothing waits or the service is away.
  flush() {
    this.sending = this.sending.then(() => this.post()).catch(() => {});
    return this.sending;
  }

  async post() {
    while (this.waiting.length) {
      const batch = this.waiting.slice(0, BATCH);
      try {
        await ask("/v1/events", {
          method: "POST",
          keepalive: true,
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ events: batch }),
        });
      } catch (error) {
        if (error.status !== 422) throw error; // away: keep them. 422: never will be taken
      }
      this.drop(batch);
    }
  }

  // For a page that is going away: hand over without waiting for the answer.
  hand() {
    const batch = this.waiting.slice(0, BATCH);
    if (!batch.length) return;
    const options = {
      method: "POST",
      keepalive: true, // outlives the page, and unlike a beacon it can carry the key
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ events: batch }),
    };
    fetch("/v1/events", signed(options)).catch(() => {}); // still in the outbox: stored once
  }

  drop(batch) {
    const gone = new Set(batch.map((event) => event.event_id));
    this.waiting = this.waiting.filter((event) => !gone.has(event.event_id));
    this.save();
  }

  save() {
    try {
      localStorage.setItem(OUTBOX, JSON.stringify(this.waiting));
    } catch {
      // no storage: events still go out from memory
    }
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(OUTBOX) ?? "[]");
  } catch {
    return [];
  }
}
