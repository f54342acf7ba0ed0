// Wires the page: who is watching, the feed, the panels, keys and sound.

import { Outbox, newId, users } from "./api.js";
import { begin } from "./keys.js";
import { text } from "./clip.js";
import { Feed } from "./feed.js";
import { Glow } from "./glow.js";
import { Why } from "./why.js";
import { Wishes } from "./wishes.js";

const USER = "reelm.user";
const LINES = 6;
const part = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 1080px)");

const outbox = new Outbox(told);
const why = new Why(part("why"));
const glow = new Glow(part("glow"));
const feed = new Feed(part("feed"), outbox, {
  event: (type, clip, portion) => {
    const event = { type, user_id: feed.user, item_id: clip.item.item_id, feed_id: feed.feedId };
    outbox.add(portion === undefined ? event : { ...event, portion });
    if (type !== "watch") outbox.flush();
  },
  act: (name, clip) => actions[name]?.(clip),
  appended: () => wishes.show(),
  entered: (clip) => {
    why.show(clip.item);
    wishes.show(clip);
    glow.follow(clip.video);
  },
  silenced: () => {
    sound(false);
    feed.current?.play();
  },
});

const wishes = new Wishes(feed, {
  send: (event) => {
    outbox.add({ ...event, user_id: feed.user, feed_id: feed.feedId });
    outbox.flush();
  },
  toast: (words, undo) => toast(words, undo),
});

const actions = {
  follow: (clip) => wishes.follow(clip),
  like: (clip) => clip.like(),
  skip: (clip) => {
    clip.skip();
    toast("Noted: not for you");
    setTimeout(() => feed.current === clip && feed.step(1), 350);
  },
  share: (clip) => share(clip),
  why: () => open("why", true),
};

const keys = {
  ArrowDown: () => feed.step(1),
  ArrowUp: () => feed.step(-1),
  j: () => feed.step(1),
  k: () => feed.step(-1),
  " ": () => feed.current?.toggle(),
  m: () => sound(!feed.sound),
  l: () => feed.current?.like(),
  x: () => feed.current && actions.skip(feed.current),
  s: () => feed.current && share(feed.current),
  f: () => feed.current && wishes.follow(feed.current),
  d: () => feed.current && wishes.less(feed.current),
  b: () => feed.current && wishes.block(feed.current),
  w: () => open("why", !part("why").classList.contains("open")),
  Escape: () => ["why", "who"].forEach((name) => open(name, false)),
};

async function share(clip) {
  const address = new URL(clip.item.video_url ?? "/", location).href;
  const title = clip.item.title ?? "A clip";
  try {
    if (navigator.share) await navigator.share({ title, url: address });
    else await navigator.clipboard.writeText(address);
    if (!navigator.share) toast("Link copied");
  } catch {
    return; // called off, or no clipboard: then nothing was shared
  }
  outbox.add({ type: "share", user_id: feed.user, item_id: clip.item.item_id, feed_id: feed.feedId });
  outbox.flush();
}

function sound(on) {
  feed.setSound(on);
  part("sound").setAttribute("aria-pressed", on);
  part("sound").querySelector("use").setAttribute("href", on ? "#i-sound" : "#i-mute");
}

let opener = null;
function open(name, on) {
  if (wide.matches) return;
  const panel = part(name);
  if (on === panel.classList.contains("open")) return;
  if (on) opener = document.activeElement;
  panel.classList.toggle("open", on);
  if (name === "who") part("open-who").setAttribute("aria-expanded", on);
  if (on) panel.querySelector(".close").focus();
  else opener?.focus?.({ preventScroll: true });
}

let fading = 0;
function toast(words, undo) {
  part("toast").firstElementChild.textContent = words;
  part("undo").hidden = !undo;
  part("undo").onclick = () => {
    part("toast").classList.remove("on");
    undo();
  };
  part("toast").classList.add("on");
  clearTimeout(fading);
  fading = setTimeout(() => part("toast").classList.remove("on"), undo ? 6000 : 1800);
}

// The last few things that were sent, in plain sight.
function told(event) {
  const clip = feed.clips.find((one) => one.item.item_id === event.item_id);
  const did = event.type === "watch" ? `${Math.round(100 * event.portion)} % seen` : event.type;
  const line = document.createElement("li");
  line.append(text("b", did.replaceAll("_", " ")), text("span", clip?.item.title || event.item_id || `@${event.creator}`));
  part("sent").querySelector(".empty")?.remove();
  part("sent").prepend(line);
  while (part("sent").children.length > LINES) part("sent").lastElementChild.remove();
}

async function watchAs(user) {
  localStorage.setItem(USER, user);
  part("user").value = user;
  part("name").textContent = user;
  for (const button of part("users").querySelectorAll("button")) {
    button.setAttribute("aria-current", button.textContent === user);
  }
  open("who", false);
  wishes.reset();
  await feed.open(user);
}

async function offerUsers() {
  const known = await users(10).catch(() => ({ users: [] }));
  part("known").hidden = !known.users.length;
  for (const user of known.users) {
    const button = text("button", user);
    button.type = "button";
    button.addEventListener("click", () => watchAs(user));
    const line = document.createElement("li");
    line.append(button);
    part("users").append(line);
  }
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, dialog");
  const pressing = event.key === " " && event.target.closest?.("button");
  if (event.ctrlKey || event.metaKey || event.altKey || pressing) return;
  if (typing && event.key !== "Escape") return;
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
document.addEventListener("visibilitychange", () => {
  const clip = feed.current;
  if (!clip) return;
  if (document.hidden) {
    clip.tick();
    clip.report();
    outbox.hand();
    clip.video.pause();
  } else {
    outbox.flush();
    if (feed.autoplay) clip.play();
  }
});
addEventListener("pagehide", () => {
  feed.current?.tick();
  feed.current?.report();
  outbox.hand();
});
addEventListener("online", () => outbox.flush());
part("switch").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = part("user").value.trim();
  if (user) watchAs(user);
});
part("stranger").addEventListener("click", () => watchAs(`guest-${newId().slice(0, 6)}`));
part("sound").addEventListener("click", () => sound(!feed.sound));
part("less").addEventListener("click", () => feed.current && wishes.less(feed.current));
part("block").addEventListener("click", () => feed.current && wishes.block(feed.current));
part("open-who").addEventListener("click", () => open("who", true));
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => open(button.dataset.close, false));
}

const asked = new URLSearchParams(location.search).get("user");
begin().then(offerUsers).then(() => watchAs(asked || localStorage.getItem(USER) || `guest-${newId().slice(0, 6)}`));
