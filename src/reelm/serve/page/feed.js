// The column of slides: which one is current, what is loaded, when the next page is asked for.

import { Clip } from "./clip.js";
import * as api from "./api.js";

const PAGE = 4; // small pages: each is chosen with the newest portions known
const AHEAD = 2; // slides left below the current one when the next page is asked for
const NEAR = 2; // slides on either side that keep their video loaded

export class Feed {
  constructor(root, outbox, handlers) {
    this.root = root;
    this.outbox = outbox;
    this.handlers = handlers;
    this.sound = false;
    this.turn = 0;
    this.autoplay = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.reset();
    this.watcher = new IntersectionObserver((seen) => this.look(seen), { root, threshold: 0.6 });
  }

  reset() {
    this.clips = [];
    this.index = -1;
    this.cursor = null;
    this.feedId = null;
    this.ended = false;
    this.asking = null;
    this.wished = false;
    this.blocked = new Set(); // creators
    this.turn += 1; // answers to what was asked before are no longer wanted
  }

  get current() {
    return this.clips[this.index];
  }

  async open(user, again = false) {
    this.current?.leave();
    this.watcher.disconnect();
    this.root.replaceChildren();
    this.reset();
    this.user = user;
    this.again = again;
    await this.more();
    this.root.scrollTop = 0;
  }

  // Ask for the next page, once at a time, after what is known has reached the service.
  more() {
    if (this.ended || this.asking) return this.asking;
    this.root.setAttribute("aria-busy", "true");
    const { turn, user, cursor, again } = this;
    this.asking = this.outbox
      .flush()
      .then(() => api.feed(user, { n: PAGE, cursor, again }))
      .then((page) => turn === this.turn && this.append(page))
      .catch((error) => turn === this.turn && this.fail(error))
      .finally(() => {
        if (turn !== this.turn) return;
        this.asking = null;
        this.root.setAttribute("aria-busy", "false");
      });
    return this.asking;
  }

  append(page) {
    this.feedId = page.feed_id;
    this.cursor = page.next_cursor;
    for (const item of page.items) {
      const clip = new Clip(item, this.clips.length, this.handlers);
      clip.element.hidden = this.blocked.has(item.creator); // blocked while the page was on its way
      this.clips.push(clip);
      this.root.append(clip.element);
      this.watcher.observe(clip.element);
    }
    if (!page.next_cursor) {
      this.ended = true;
      this.card("That was everything.", "There is no clip left that you have not seen.",
        "Start over", () => this.open(this.user, true));
    }
    if (this.index < 0 && this.clips.length) this.enter(0);
    this.handlers.appended();
    this.window();
    if (this.wished) this.step(1); // asked for while the page was on its way
  }

  fail(error) {
    const card = this.card("The feed did not come.", error.message, "Try again", () => {
      card.remove();
      if (error.status === 400) this.cursor = null;
      this.more();
    });
  }

  card(title, words, action, act) {
    const card = document.getElementById("end").content.firstElementChild.cloneNode(true);
    card.querySelector("h3").textContent = title;
    card.querySelector("p").textContent = words;
    card.querySelector("button").textContent = action;
    card.querySelector("button").addEventListener("click", act);
    this.root.append(card);
    return card;
  }

  look(seen) {
    for (const entry of seen) {
      if (!entry.isIntersecting) continue;
      const index = this.clips.findIndex((clip) => clip.element === entry.target);
      if (index >= 0 && index !== this.index) this.enter(index);
    }
  }

  enter(index) {
    const before = this.current;
    const inside = before?.element.contains(document.activeElement);
    this.index = index;
    before?.leave();
    this.outbox.flush();
    this.current.enter(this.sound, this.autoplay);
    if (inside) this.current.element.focus({ preventScroll: true });
    this.window();
    this.handlers.entered(this.current);
    this.ahead();
  }

  // Ask for more where few clips are left to see.
  ahead() {
    const left = this.clips.slice(this.index + 1).filter((clip) => !clip.element.hidden).length;
    if (left < AHEAD) this.more();
  }

  // Clips below the current one that are no longer wanted, and wanted again.
  hide(creator) {
    for (const clip of this.clips.slice(this.index + 1)) {
      if (clip.item.creator === creator) clip.element.hidden = true;
    }
    this.window();
    this.ahead();
  }

  unhide(creator) {
    for (const clip of this.clips) if (clip.item.creator === creator) clip.element.hidden = false;
    this.current?.element.scrollIntoView({ behavior: "instant", block: "start" });
    this.window();
  }

  // Only clips near the current one hold a video; a long feed stays light.
  window() {
    this.clips.forEach((clip, place) => {
      if (Math.abs(place - this.index) <= NEAR && !clip.element.hidden) clip.load();
      else clip.unload();
    });
  }

  step(by) {
    const places = [...this.root.children].filter((place) => !place.hidden);
    const to = places.indexOf(this.current?.element) + by;
    this.wished = by > 0 && to >= places.length && this.asking !== null;
    const target = places[Math.max(0, Math.min(places.length - 1, to))];
    target?.scrollIntoView({ behavior: this.autoplay ? "smooth" : "auto", block: "start" });
  }

  setSound(on) {
    this.sound = on;
    if (this.current) this.current.video.muted = !on;
  }
}
