// The operator's page: asks for one overview every few seconds and draws it.

import { ask } from "./api.js";
import { bars, lines, meter, none, percent, rows, short, spark } from "./charts.js";
import { text } from "./clip.js";
import { begin, need } from "./keys.js";

const EVERY_MS = 3000;
const TRIAL_MS = 60000; // its report goes through all that was shown
const MEASURES = { portion: "Watched share", likes: "Liked", skips: "Skipped", met_each: "Met by each user" };
const SOURCES = { ranked: "Ranked", model: "Model", new: "Kept for new", fallback: "Fallback" };
const COSTS = { seconds: "Seconds", cpu_s: "Processor seconds", device_s: "Seconds a model was busy", joules: "Joules", tokens_in: "Tokens read", tokens_out: "Tokens written" };

const part = (id) => document.getElementById(id);
const put = (id, ...children) => part(id).replaceChildren(...children);
const sum = (values) => values.reduce((all, one) => all + one, 0);
const whole = (value) => value.toLocaleString("en");
let reported = 0; // when the report of the trial was last asked for
let drawn = ""; // the list of runs is only touched when it changes, so that a choice stays

function say(id, value) {
  part(id).textContent = value;
}

function facts(id, pairs) {
  put(id, ...pairs.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
}

function tiles(now) {
  const errors = sum(now.minutes.map((one) => one.errors));
  const { p50, p99 } = now.latency_ms.feed;
  say("t-rate", now.requests_per_s.toFixed(1));
  say("t-feeds", whole(sum(now.minutes.map((one) => one.feeds))));
  say("t-latency", p50 === null ? "–" : `${short(p50)} ms`);
  say("t-latency-more", p50 === null ? "no feed was asked for yet" : `median; 99 of 100 within ${short(p99)} ms`);
  say("t-fallback", percent(now.fallback_share));
  say("t-cold", percent(now.cold_share));
  say("t-errors", whole(errors));
  part("t-errors").classList.toggle("alert", errors > 0);
}

function traffic(now) {
  const { minutes } = now;
  const requests = sum(minutes.map((one) => one.requests));
  const label = `${whole(requests)} requests in the last hour`;
  put("c-requests", requests ? bars(minutes, (one) => one.requests, label, part("c-requests").clientWidth) : none("No requests yet. Open the feed page, and they show here."));
  const asked = minutes.some((one) => one.p50 !== null);
  put("c-latency", ...(asked ? latency(minutes) : [none("No feed was asked for in the last hour.")]));
}

function latency(minutes) {
  const chart = lines(minutes, [["faint", (one) => one.p99], ["", (one) => one.p50]], "Median and 99th percentile of the feed's latency by minute", part("c-latency").clientWidth);
  const legend = text("p", "");
  legend.className = "legend";
  for (const [name, words] of [["", "median"], ["faint", "99th percentile"]]) {
    const mark = document.createElement("i");
    mark.className = name;
    const item = document.createElement("span");
    item.append(mark, words);
    legend.append(item);
  }
  return [chart, legend];
}

function shown(now) {
  const { minutes, places } = now;
  const all = sum(Object.values(places));
  const of = (source) => minutes.map((one) => one.places[source] ?? 0);
  const sources = Object.entries(SOURCES).map(([source, name]) => [name, spark(of(source)), percent((places[source] ?? 0) / all)]);
  const cold = ["Cold videos", spark(minutes.map((one) => one.cold)), percent(now.cold_share)];
  put("c-places", all ? rows([...sources, cold]) : none("No feed was shown in the last hour."));
  const topics = now.topics.map((one) => [one.name, spark(one.minutes), percent(one.share)]);
  put("c-topics", topics.length ? rows(topics) : none(all ? "The shown videos have neither notes nor hashtags." : "No feed was shown in the last hour."));
  const events = Object.entries(now.events);
  if (now.unknown_videos) events.push(["about unknown videos", now.unknown_videos]);
  const most = Math.max(...events.map(([, count]) => count));
  put("c-events", events.length ? rows(events.map(([kind, count]) => [kind.replaceAll("_", " "), meter(count / most), whole(count)])) : none("No events in the last hour."));
}

function run({ run: told, version, started_at: started }) {
  say("run-line", `${told.name} · version ${version}`);
  say("r-name", told.name);
  facts("r-facts", [
    ["Model", told.model], ["Videos to show", whole(told.videos)],
    ["New to the model", whole(told.cold)], ["Users in training", whole(told.users)],
    ["Service up since", new Date(1000 * started).toLocaleString([], { dateStyle: "short", timeStyle: "short" })],
  ]);
  part("swap").hidden = !told.others.length;
  part("back").hidden = !told.before;
  part("back").textContent = `Roll back to ${told.before}`;
  const list = told.others.join("\n");
  if (list === drawn) return;
  drawn = list;
  put("runs", ...told.others.map((name) => Object.assign(text("option", name), { value: name })));
}

function queue({ uploads }) {
  const words = ["No video waits", "1 video waits"][uploads.waiting] ?? `${uploads.waiting} videos wait`;
  say("u-waiting", uploads.taken ? `${words} to be watched` : "None are taken");
  const latest = document.createElement("ol");
  for (const one of uploads.latest.slice(0, 5)) {
    const line = document.createElement("li");
    const how = one.status === "ready" ? `in the feed after ${one.seconds.toFixed(1)} s` : "failed";
    line.append(text("b", one.video_id), text("span", one.reason ? `${how}: ${one.reason}` : how));
    latest.append(line);
  }
  if (uploads.latest.length) put("u-latest", latest);
  else put("u-latest", none(uploads.taken ? `None came since the start; ${uploads.room} may wait at once.` : "This service was started without a folder for new videos."));
}

function rest({ notes, run: told, cost, store, store_counted_at: at }) {
  facts("n-facts", [
    ["Videos with notes", `${whole(notes.noted)} of ${whole(told.videos)}`],
    ["Corrected by people", whole(notes.corrected)], ["Prompts", notes.prompts.join(", ") || "none"],
  ]);
  const known = cost ? Object.entries(COSTS).filter(([name]) => cost[name] !== null) : [];
  const least = (name) => (cost.incomplete.includes(name) ? "at least " : "");
  facts("k-facts", known.map(([name, words]) => [words, least(name) + short(cost[name])]));
  if (!known.length) put("k-facts", text("dt", "The run's folders tell no cost."));
  facts("s-facts", Object.entries(store).map(([table, count]) => [table, whole(count)]));
  say("s-at", `Rows, counted ${new Date(1000 * at).toLocaleTimeString()}`);
}

async function trial({ run: told }) {
  part("trial").hidden = part("arm").hidden = !told.other;
  document.querySelector("label[for=arm]").hidden = !told.other;
  if (!told.other || Date.now() - reported < TRIAL_MS) return;
  reported = Date.now();
  const now = await ask("/v1/admin/ab");
  say("a-lead", `${now.name}: a ${told.name} (${whole(now.a.users)} users), b ${told.other} (${whole(now.b.users)} users, ${percent(now.share)} were meant to be). b minus a, with 95 % over users:`);
  const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(3);
  const lines = Object.entries(MEASURES).filter(([name]) => now.differences[name]).map(([name, words]) => {
    const { mean, low, high } = now.differences[name];
    return [words, text("span", signed(mean)), `${signed(low)} to ${signed(high)}`];
  });
  put("a-table", lines.length ? rows(lines) : none("Too few users yet to compare."));
  say("a-warning", now.warnings.join(" "));
}

async function look() {
  try {
    const now = await ask("/v1/admin/overview");
    for (const draw of [tiles, traffic, shown, run, queue, rest]) draw(now);
    await trial(now);
    say("status", `Up to date at ${new Date(1000 * now.now).toLocaleTimeString()}`);
    part("status").classList.remove("wrong");
    document.body.dataset.now = now.now;
  } catch (error) {
    say("status", `No answer: ${error.message}. Trying again.`);
    part("status").classList.add("wrong");
  }
}

async function change(path, body) {
  const buttons = [...document.querySelectorAll("#swap button, #back")];
  buttons.forEach((one) => (one.disabled = true));
  part("r-said").classList.remove("wrong");
  say("r-said", "Loading the run …");
  try {
    const options = { method: "POST", headers: { "content-type": "application/json" } };
    const now = await ask(path, body ? { ...options, body: JSON.stringify(body) } : options);
    say("r-said", `Now serving ${now.run}.`);
    await look();
  } catch (error) {
    say("r-said", error.message);
    part("r-said").classList.add("wrong");
  } finally {
    buttons.forEach((one) => (one.disabled = false));
  }
}

part("swap").addEventListener("submit", (event) => {
  event.preventDefault();
  change("/v1/admin/run", { run: part("runs").value, arm: part("arm").value });
});
part("back").addEventListener("click", () => change("/v1/admin/rollback"));

async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, EVERY_MS);
}
need("admin");
begin().then(watch);
