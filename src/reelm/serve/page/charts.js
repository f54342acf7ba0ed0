// Small charts as SVG, in one colour; words and numbers beside them say the same.

import { text } from "./clip.js";

const SPACE = "http://www.w3.org/2000/svg";

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const titled = (words) => {
  const title = document.createElementNS(SPACE, "title");
  title.textContent = words;
  return title;
};

export const none = (words) => Object.assign(text("p", words), { className: "none" });

const clock = (at) => new Date(1000 * at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

// The least round number that is not below a value, for the top of a scale.
export function top(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= value * 0.999999);
}

const H = 150, LEFT = 40, BOTTOM = 18;

// Drawn as wide as it is shown, so that its words keep their size.
function frame(minutes, most, label, W) {
  const x = (place) => LEFT + ((W - LEFT) * place) / minutes.length;
  const y = (value) => (H - BOTTOM) * (1 - value / most) + 4;
  const chart = draw("svg", { viewBox: `0 0 ${W} ${H + 6}`, class: "chart", role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    const at = y(most * share);
    chart.append(draw("line", { x1: LEFT, x2: W, y1: at, y2: at, class: "grid" }));
    chart.append(draw("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, short(most * share)));
  }
  for (const place of [0, 20, 40]) {
    chart.append(draw("text", { x: x(place), y: H + 4 }, clock(minutes[place].at)));
  }
  chart.append(draw("text", { x: W, y: H + 4, "text-anchor": "end" }, "now"));
  return { chart, x, y };
}

export function bars(minutes, value, label, width) {
  const values = minutes.map(value);
  const { chart, x, y } = frame(minutes, top(Math.max(...values)), label, width);
  values.forEach((one, place) => {
    if (!one) return;
    const at = { x: x(place) + 1, y: y(one), width: x(1) - x(0) - 2, height: y(0) - y(one), rx: 1.5, class: "bar" };
    chart.append(draw("rect", at, titled(`${clock(minutes[place].at)}: ${one}`)));
  });
  return chart;
}

// Lines with gaps where there is no value; `series` is a list of [class, value of a minute].
export function lines(minutes, series, label, width) {
  const all = series.flatMap(([, value]) => minutes.map(value)).filter((one) => one !== null);
  const { chart, x, y } = frame(minutes, top(Math.max(...all)), label, width);
  for (const [name, value] of series) {
    const points = minutes.map((one, place) => [x(place + 0.5), value(one)]);
    chart.append(draw("path", { d: path(points.map(([a, b]) => [a, b === null ? null : y(b)])), class: `line ${name}` }));
    points.forEach(([a, b], place) => {
      const alone = b !== null && [points[place - 1], points[place + 1]].every((one) => !one || one[1] === null);
      if (alone) chart.append(draw("circle", { cx: a, cy: y(b), r: 2.5, class: `dot ${name}` }, titled(short(b))));
    });
  }
  return chart;
}

export function spark(values) {
  const most = Math.max(...values, 1e-9);
  const points = values.map((one, place) => [(100 * place) / (values.length - 1), 21 - (19 * one) / most]);
  return draw("svg", { viewBox: "0 0 100 22", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" },
    draw("path", { d: path(points) }));
}

export function meter(share) {
  return draw("svg", { viewBox: "0 0 100 22", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" },
    draw("rect", { x: 0, y: 8, width: Math.max(0.8, 100 * share), height: 6 }));
}

function path(points) {
  let open = false;
  return points.map(([a, b]) => {
    const step = b === null ? "" : `${open ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`;
    open = b !== null;
    return step;
  }).join("");
}

// Rows of a name, a small chart and a number.
export function rows(given) {
  const table = document.createElement("table");
  table.className = "rows";
  for (const [name, chart, number] of given) {
    const row = table.insertRow();
    const head = text("th", name);
    head.scope = "row";
    head.title = name;
    row.append(head);
    row.insertCell().append(chart);
    row.insertCell().textContent = number;
  }
  return table;
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return `${+value.toPrecision(3)}`;
}

export const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
