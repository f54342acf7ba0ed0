// One slide of the feed: a clip with its words and buttons.

import { Meter } from "./meter.js";

const LEAST = 0.01; // portions below this are not worth a line in the log

export class Clip {
  constructor(item, place, handlers) {
    this.item = item;
    this.handlers = handlers;
    this.meter = new Meter();
    this.liked = this.refused = false;
    this.element = document.getElementById("slide").content.firstElementChild.cloneNode(true);
    this.video = this.element.querySelector("video");
    this.progress = this.element.querySelector(".bar");
    this.element.inert = true; // only the current slide is in the tab order
    this.element.setAttribute("aria-posinset", place + 1);
    this.element.setAttribute("aria-setsize", -1);
    this.fill();
    this.listen();
  }

  // Titles and hashtags are strangers' text: only ever textContent.
  fill() {
    const { item, element } = this;
    const part = (selector) => element.querySelector(selector);
    part("h3").textContent = item.title || item.item_id;
    part("h3").id = `title-${crypto.randomUUID()}`;
    element.setAttribute("aria-labelledby", part("h3").id);
    element.dataset.item = item.item_id;
    part(".by").hidden = !item.creator;
    part(".by span").textContent = item.creator ? `@${item.creator}` : "";
    for (const tag of item.hashtags) part(".tags").append(text("span", tag));
    part(".reason").dataset.source = item.source;
    part(".reason span").textContent = item.reason;
    if (!item.video_url) this.asStill();
  }

  // Catalogues without files: a coloured card in place of the clip.
  asStill() {
    this.video.remove();
    this.progress.hidden = true;
    const still = this.element.querySelector(".still");
    still.hidden = false;
    let hue = 0;
    for (const letter of this.item.item_id) hue = (hue * 31 + letter.codePointAt(0)) % 360;
    still.style.background = `linear-gradient(160deg, hsl(${hue} 55% 42%), hsl(${hue + 70} 60% 18%))`;
  }

  listen() {
    const { video, element } = this;
    video.addEventListener("timeupdate", () => this.tick());
    video.addEventListener("ended", () => {
      this.meter.wrap(video.duration);
      video.currentTime = 0;
      video.play().catch(() => {});
    });
    video.addEventListener("loadedmetadata", () =>
      element.classList.toggle("wide", video.videoWidth > video.videoHeight));
    video.addEventListener("error", () => {
      if (video.src) element.classList.add("broken");
    });
    video.addEventListener("play", () => element.classList.remove("is-paused"));
    let last = 0;
    element.querySelector(".tap").addEventListener("click", () => {
      const now = performance.now();
      const twice = now - last < 300;
      last = twice ? 0 : now;
      if (twice) this.like(true);
      else setTimeout(() => last === now && this.toggle(), 300);
    });
    for (const button of element.querySelectorAll("[data-act]")) {
      button.addEventListener("click", () => this.handlers.act(button.dataset.act, this));
    }
  }

  tick() {
    const { video } = this;
    if (!video.duration) return;
    this.meter.to(video.currentTime);
    const share = Math.min(1, video.currentTime / video.duration);
    this.progress.firstElementChild.style.transform = `scaleX(${share})`;
    this.progress.setAttribute("aria-valuenow", Math.round(100 * share));
  }

  load() {
    if (this.item.video_url && !this.video.getAttribute("src")) this.video.src = this.item.video_url;
  }

  unload() {
    if (!this.video.getAttribute("src")) return;
    this.video.removeAttribute("src");
    this.video.load();
  }

  enter(sound, autoplay) {
    this.load();
    this.current = true;
    this.element.dataset.current = "";
    this.element.inert = false;
    this.video.muted = !sound;
    if (autoplay) this.play();
    else this.element.classList.add("is-paused");
  }

  play() {
    if (!this.item.video_url) return;
    this.video.play().catch((error) => {
      // NotAllowedError: the browser wants a gesture before sound, or before anything
      if (error.name !== "NotAllowedError" || !this.current) return;
      if (this.video.muted) this.element.classList.add("is-paused");
      else this.handlers.silenced();
    });
  }

  toggle() {
    if (this.video.paused) this.play();
    else {
      this.video.pause();
      this.element.classList.add("is-paused");
    }
  }

  leave() {
    this.current = false;
    delete this.element.dataset.current;
    this.element.inert = true;
    this.tick();
    this.video.pause();
    this.report();
    this.video.currentTime = 0;
    this.meter.at = 0;
  }

  // Tell what was played since the last report.
  report() {
    const portion = this.meter.take(this.video.duration);
    if (portion >= LEAST) this.handlers.event("watch", this, portion);
  }

  like(only = false) {
    if (only && this.liked) return this.burst();
    this.liked = !this.liked;
    this.press("like", this.liked);
    if (this.liked) this.burst();
    this.handlers.event(this.liked ? "like" : "unlike", this);
  }

  skip() {
    if (this.refused) return;
    this.refused = true;
    this.press("skip", true);
    this.element.classList.add("refused");
    this.handlers.event("skip", this);
  }

  press(act, on) {
    this.element.querySelector(`.rail [data-act="${act}"]`).setAttribute("aria-pressed", on);
  }

  burst() {
    const heart = this.element.querySelector(".burst");
    heart.classList.remove("on");
    void heart.getBoundingClientRect();
    heart.classList.add("on");
  }
}

export function text(tag, words) {
  const element = document.createElement(tag);
  element.textContent = words;
  return element;
}
