"use strict";

// A page that was opened from a folder cannot fetch. So the rows and thumbnails of the run lie beside it in scripts, and
// each hands its content to report.take.
const settings = JSON.parse(document.getElementById("settings").textContent);
const taken = new Map();
const report = { take: (name, content) => taken.set(name, content) };

// The page's policy lets no text become a script or an address of one, but through this.
const addresses = { createScriptURL: (name) => `${settings.folder}/${name}.js` };
const policy = window.trustedTypes?.createPolicy("report", addresses) ?? addresses;

function load(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = policy.createScriptURL(name);
    script.onload = () => {
      resolve(taken.get(name));
      taken.delete(name);
      script.remove();
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(`${settings.folder}/${name}.js cannot be read. Keep the folder "report" beside this page, `
        + "and load the page again if its report was written anew"));
    };
    document.head.append(script);
  });
}

// Rows are kept once they are there, thumbnails only the latest: they are a hundred times as large.
class Cache {
  constructor(kind, limit) {
    this.kind = kind;
    this.limit = limit;
    this.loads = new Map();
  }

  get(number) {
    const known = this.loads.get(number) ?? load(`${this.kind}-${String(number).padStart(5, "0")}`);
    this.loads.delete(number);
    this.loads.set(number, known);
    known.catch(() => this.loads.delete(number));
    if (this.loads.size > this.limit) this.loads.delete(this.loads.keys().next().value);
    return known;
  }
}

const rowFiles = new Cache("rows", Infinity);
const imageFiles = new Cache("images", settings.pageCards);

// What the reader asked for

const filters = document.getElementById("filters");
const search = document.getElementById("search");
const status = document.getElementById("status");
const seed = document.getElementById("seed");
const customId = document.getElementById("custom-id");

function wishes() {
  const equal = [];
  for (const field of filters.querySelectorAll("[data-equals]")) {
    if (field.value) equal.push((shared) => shared[field.dataset.equals] === field.value);
  }
  for (const field of filters.querySelectorAll("[data-least]")) {
    if (field.value) equal.push((shared) => Number(shared[field.dataset.least]) >= Number(field.value));
  }
  for (const field of filters.querySelectorAll("[data-most]")) {
    if (field.value) equal.push((shared) => Number(shared[field.dataset.most]) <= Number(field.value));
  }
  return {
    labels: labelWishes(),
    customId: customId.value.trim(),
    words: search.value.toLowerCase().split(/\s+/).filter(Boolean),
    status: status.value,
    seed: seed.value.trim(),
    shared: equal,
  };
}

// Labels are pairs of a name and a value, both people's own; undefined where an image lacks one.
const labelOf = (labels, name) => labels.find((pair) => pair[0] === name)?.[1];

function labelWishes() {
  const tests = [];
  for (const field of filters.querySelectorAll("[data-label]")) {
    const name = field.dataset.label;
    const wanted = field.value === "-" ? undefined : field.value.slice(1);
    if (field.value) tests.push((labels) => labelOf(labels, name) === wanted);
  }
  const limits = [["labelLeast", "[data-label-least]", 1], ["labelMost", "[data-label-most]", -1]];
  for (const [kind, fields, sign] of limits) {
    for (const field of filters.querySelectorAll(fields)) {
      const name = field.dataset[kind];
      const limit = Number(field.value);
      if (field.value) tests.push((labels) => sign * (Number(labelOf(labels, name) ?? NaN) - limit) >= 0);
    }
  }
  return tests;
}

const asksForAll = (wish) => !wish.words.length && !wish.status && !wish.seed && !wish.customId
  && !wish.shared.length && !wish.labels.length;

function matchesIn(rows, wish) {
  rows.labelText ??= rows.labels.map((labels) => labels.map(([name, value]) => `${name}=${value}`).join(" "));
  rows.text ??= rows.caption.map((caption, i) =>
    `${caption} ${rows.key[i]} ${rows.own.custom_id[i]} ${rows.own.Seed[i]} ${rows.labelText[rows.labelsIndex[i]]} ${rows.fault[i]}`
      .toLowerCase());
  const fits = rows.shared.map((shared) => wish.shared.every((test) => test(shared)));
  const labelled = rows.labels.map((labels) => wish.labels.every((test) => test(labels)));
  const found = [];
  for (let i = 0; i < rows.key.length; i++) {
    if (fits[rows.sharedIndex[i]] && labelled[rows.labelsIndex[i]]
      && (!wish.status || rows.status[i] === wish.status)
      && (!wish.customId || rows.own.custom_id[i] === wish.customId)
      && (!wish.seed || rows.own.Seed[i] === wish.seed)
      && wish.words.every((word) => rows.text[i].includes(word))) found.push(i);
  }
  return found;
}

// Cards, of the same shape as those that stand in the page from the start

const template = document.getElementById("card").content.firstElementChild;

function fact(name, value) {
  const pair = document.createElement("div");
  const dt = pair.appendChild(document.createElement("dt"));
  const dd = pair.appendChild(document.createElement("dd"));
  dt.textContent = name;
  dd.textContent = value;
  dd.dir = "auto";
  dd.classList.toggle("mono", name === "Seed");
  return pair;
}

function label([name, value]) {
  const pair = fact(name, value);
  pair.firstElementChild.dir = "auto";
  pair.lastElementChild.removeAttribute("class");
  return pair;
}

function picture([source, width, height, enlarged], caption, file) {
  const image = new Image(width, height);
  image.alt = caption;
  image.decoding = "async";
  image.classList.toggle("pixels", enlarged);
  image.src = source;
  if (!settings.links || !file.startsWith("images/")) return image;
  const link = document.createElement("a");
  link.href = file;
  link.append(image);
  return link;
}

function card(rows, i, image) {
  const item = template.cloneNode(true);
  const facts = { ...rows.shared[rows.sharedIndex[i]] };
  for (const [name, column] of Object.entries(rows.own)) facts[name] = column[i];
  const fault = document.createElement("p");
  fault.className = "fault";
  fault.dir = "auto";
  fault.textContent = rows.fault[i];
  item.classList.toggle("failed", rows.status[i] !== "made");
  item.querySelector(".frame").append(image ? picture(image, rows.caption[i], facts.File) : fault);
  item.querySelector(".caption").textContent = rows.caption[i];
  item.querySelector(".id").textContent = facts.custom_id;
  item.querySelector("summary").textContent = rows.key[i];
  const labels = rows.labels[rows.labelsIndex[i]];
  item.querySelector(".labels").append(...labels.slice(0, settings.labelsShown).map(label));
  const known = (names) => names.filter((name) => facts[name]).map((name) => fact(name, facts[name]));
  item.querySelector(".meta").append(...known(settings.summary));
  const others = labels.slice(settings.labelsShown).map(([name, value]) => fact(name, value));
  item.querySelector(".facts").append(...known(settings.details), ...others);
  return item;
}

async function cardAt(position) {
  const [rows, images] = await Promise.all([
    rowFiles.get(Math.floor(position / settings.rowsPerFile)),
    imageFiles.get(Math.floor(position / settings.pageCards)),
  ]);
  return card(rows, position % settings.rowsPerFile, images[position % settings.pageCards]);
}

// The view: which rows are asked for, and which page of them is shown

const grid = document.getElementById("grid");
const count = document.getElementById("count");
const page = document.getElementById("page");
const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");

let found = null; // positions in the run; null stands for all of them
let shown = 0; // page, from 0
let latest = 0; // a newer wish makes the answer to an older one moot

const total = () => found ? found.length : settings.count;
const pageCount = () => Math.max(1, Math.ceil(total() / settings.pageCards));

async function showPage(number) {
  const mine = ++latest;
  shown = Math.min(Math.max(number, 0), pageCount() - 1);
  const first = shown * settings.pageCards;
  const end = Math.min(first + settings.pageCards, total());
  const positions = found ? found.slice(first, end) : Array.from({ length: end - first }, (_, i) => first + i);
  const cards = await Promise.all(positions.map(cardAt));
  if (mine !== latest) return;
  grid.replaceChildren(...cards);
  say(first, end);
}

function say(first, end) {
  const which = found ? `${grouped(total())} that match, out of ${grouped(settings.count)}` : grouped(settings.count);
  count.textContent = !total() ? "Nothing matches." : `${grouped(first + 1)} to ${grouped(end)} of ${which}.`;
  page.value = shown + 1;
  page.max = pageCount();
  document.getElementById("pages").textContent = grouped(pageCount());
  for (const pager of document.querySelectorAll(".pager")) pager.hidden = pageCount() === 1;
  for (const button of document.querySelectorAll("[data-turn]")) {
    const target = shown + Number(button.dataset.turn);
    button.disabled = target < 0 || target >= pageCount();
  }
}

async function narrow() {
  const mine = ++latest;
  const wish = wishes();
  if (asksForAll(wish)) {
    found = null;
  } else {
    const files = Array.from({ length: Math.ceil(settings.count / settings.rowsPerFile) }, (_, i) => rowFiles.get(i));
    const reading = setTimeout(() => { if (mine === latest) count.textContent = "Reading the captions…"; }, 200);
    const positions = [];
    try {
      const all = await Promise.all(files);
      if (mine !== latest) return;
      all.forEach((rows, file) => {
        for (const i of matchesIn(rows, wish)) positions.push(file * settings.rowsPerFile + i);
      });
    } finally {
      clearTimeout(reading);
    }
    found = positions;
  }
  await showPage(0);
}

// Whoever waits for the page to be as asked, a test for one, waits for this.
let settled = Promise.resolve();

function act(work) {
  settled = work().catch((error) => { count.textContent = `Not shown: ${error.message}.`; });
}

async function turn(number) {
  await showPage(number);
  document.getElementById("images").scrollIntoView();
}

filters.addEventListener("input", () => act(narrow));
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(() => act(narrow)));
page.addEventListener("change", () => act(() => turn(Math.trunc(page.valueAsNumber || 1) - 1)));
for (const button of document.querySelectorAll("[data-turn]")) {
  button.addEventListener("click", () => act(() => turn(shown + Number(button.dataset.turn))));
}

for (const button of document.querySelectorAll("[data-search]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    filters.reset();
    search.value = button.dataset.search;
    status.value = "failed";
    document.getElementById("images").scrollIntoView();
  });
}

filters.hidden = settings.count === 0;
if (settings.count > settings.pageCards) say(0, settings.pageCards);
if (!asksForAll(wishes())) act(narrow); // a browser may restore what was typed before a reload
