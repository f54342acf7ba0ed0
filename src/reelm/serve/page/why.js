// The "why this?" panel: the sentence, the clips it rests on, and what the model noted.

import * as api from "./api.js";
import { text } from "./clip.js";

const SOURCES = { ranked: "Picked for you", model: "Picked for you", new: "New here", fallback: "Popular and fresh" };
const PROOFS = 4;

const part = (id) => document.getElementById(id);

export class Why {
  constructor(panel) {
    this.panel = panel;
    this.known = new Map();
  }

  // Videos do not change while the page is open, so each is asked for once.
  facts(id) {
    if (!this.known.has(id)) {
      const asked = api.video(id).catch(() => null);
      this.known.set(id, asked);
    }
    return this.known.get(id);
  }

  async show(item) {
    this.item = item;
    this.panel.dataset.source = item.source;
    part("why-source").textContent = SOURCES[item.source] ?? "Why this?";
    part("why-reason").textContent = item.reason;
    const because = item.because.slice(0, PROOFS);
    const [facts, ...proofs] = await Promise.all([item.item_id, ...because].map((id) => this.facts(id)));
    if (this.item !== item) return; // swiped on while waiting
    this.proof(proofs.filter(Boolean), item.because.length);
    this.notes(facts?.notes ?? {}, item.facts);
    part("why-provenance").textContent = sources(facts);
  }

  proof(videos, all) {
    part("why-because").hidden = !videos.length;
    const some = all > videos.length ? ", newest first" : "";
    part("why-because-title").textContent = `What this rests on${some}`;
    part("why-proof").replaceChildren(...videos.map(thumbnail));
  }

  notes(notes, cited) {
    const short = Object.entries(notes).filter(([, v]) => String(v).length <= 40 && v !== "none");
    const caption = Object.values(notes).find((v) => String(v).length > 40);
    part("why-notes").hidden = !short.length && !caption;
    part("why-caption").hidden = !caption;
    part("why-caption").textContent = caption ?? "";
    part("why-values").replaceChildren(
      ...short.map(([field, value]) => {
        const pair = document.createElement("div");
        pair.append(text("dt", field.replaceAll("_", " ")), text("dd", String(value)));
        pair.classList.toggle("cited", cited[field] === String(value));
        return pair;
      }),
    );
  }
}

function thumbnail(facts) {
  const line = document.createElement("li");
  let picture = text("div", "");
  picture.className = "blank";
  if (facts.video_url) {
    picture = document.createElement("video");
    picture.muted = true;
    picture.preload = "metadata";
    picture.tabIndex = -1;
    picture.src = `${facts.video_url}#t=1.5`;
  }
  line.append(picture, text("span", facts.title || facts.item_id));
  return line;
}

function sources(facts) {
  if (!facts?.provenance.length || !Object.keys(facts.notes).length) return "";
  const said = facts.provenance.map((one) => {
    const prompt = [one.prompt, one.version && `v${one.version}`].filter(Boolean).join(" ");
    const weights = one.weights ? ` (weights ${String(one.weights).slice(0, 8)})` : "";
    return `${one.model || "a model"}${weights} asked for ${prompt || "notes"}`;
  });
  return `Noted by ${said.join("; ")}.`;
}
