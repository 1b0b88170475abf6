"use strict";
const $ = (id) => document.getElementById(id);
const memory = JSON.parse($("memory").textContent);
const sheet = $("sheet");
const cards = Array.from(sheet.children);
const cardOf = new Map(cards.map((card) => [card.dataset.movie, card]));
const measuresOf = new Map(cards.map((card) => [card, JSON.parse(card.dataset.measures)]));
const WORDS = { accept: "accepted", look: "look", reject: "rejected", problem: "problem" };
const COLUMN = Object.fromEntries(memory.columns.map((name, place) => [name, place]));

// What the browser keeps. Pages from disk may be denied it: then the decisions live as long as the page.
const kept = {
  works: true,
  read(key) { try { return localStorage.getItem(key); } catch { this.works = false; return null; } },
  write(key, text) { try { localStorage.setItem(key, text); } catch { this.works = false; } },
};
const DECISIONS_KEY = "contact sheet " + memory.key, NAME_KEY = "contact sheet name";

// Rows of decisions.tsv as it was when the page was made. Of several rows for a movie the last holds.
const written = new Map(memory.rows.map((row) => [row[COLUMN.movie], row]));
let pending = new Map();   // movie -> {decision, who, when, why, judged}: decided here
let past = [];             // earlier states of pending, for undo
let exported = "";         // the state of pending that was exported last
let selected = null;

function remember() { kept.write(DECISIONS_KEY, JSON.stringify({ pending: Array.from(pending), exported })); }

function recall() {
  const text = kept.read(DECISIONS_KEY);
  if (text) {
    try {
      const state = JSON.parse(text);
      // A decision on data that have changed since is not carried over.
      pending = new Map(state.pending.filter(([movie, d]) => cardOf.has(movie) && cardOf.get(movie).dataset.judged === d.judged));
      exported = state.exported;
    } catch { pending = new Map(); }
  }
  $("who").value = kept.read(NAME_KEY) || "";
}

function decisionOn(movie) {
  if (pending.has(movie)) return pending.get(movie);
  const row = written.get(movie);
  const cell = (name) => (row && row[COLUMN[name]]) || "";
  return { decision: cell("decision") || "auto", who: cell("who"), when: cell("when"), why: cell("why") };
}

function show(card) {
  const movie = card.dataset.movie, decision = decisionOn(movie), automatic = card.dataset.verdict;
  const human = decision.decision !== "auto" && !(automatic === "problem" && decision.decision === "accept");
  card.dataset.standing = human ? decision.decision : automatic;
  card.dataset.human = human;
  const badge = card.querySelector(".badge"), decided = card.querySelector(".decided");
  badge.textContent = WORDS[card.dataset.standing];
  badge.classList.toggle("human", human);
  const here = pending.has(movie), who = decision.who || (here ? "you" : "a human");
  const by = ["by " + who, decision.when.slice(0, 10), here ? "on this page" : ""].filter(Boolean).join(", ");
  card.querySelector(".by").textContent = human ? by : "automatic";
  decided.textContent = human ? decision.why : "";
  decided.hidden = !decided.textContent;
  for (const button of card.querySelectorAll("[data-decision]")) {
    button.setAttribute("aria-pressed", String(button.dataset.decision === (human ? decision.decision : "auto")));
  }
}

function count() {
  const number = { accept: 0, look: 0, reject: 0, problem: 0 };
  for (const card of cards) number[card.dataset.standing] += 1;
  number.shown = visible().length;
  for (const [name, value] of Object.entries(number)) document.querySelector(`[data-count="${name}"]`).textContent = value;
  const open = JSON.stringify(Array.from(pending)) === exported ? 0 : pending.size;
  $("pending").textContent = open ? `(${open} new)` : "";
  $("undo").disabled = past.length === 0;
}

function refresh() {
  cards.forEach(show);
  count();
  if ($("large").open) showLarge();
}

function change(edit) {
  $("notice").hidden = true;
  past.push(new Map(pending));
  edit();
  remember();
  refresh();
}

function decide(movie, decision) {
  const card = cardOf.get(movie);
  if (decision === "accept" && card.dataset.verdict === "problem") {
    tell(`${movie} has a problem, which must be solved before it can be accepted.`);
    return false;
  }
  change(() => {
    const row = written.get(movie);
    // Back to automatic where nothing else was ever written: nothing was decided.
    if (decision === "auto" && (!row || row[COLUMN.decision] === "auto")) pending.delete(movie);
    else pending.set(movie, { decision, who: $("who").value.trim(), when: now(), why: "", judged: card.dataset.judged });
  });
  return true;
}

function now() { return new Date().toISOString().slice(0, 19) + "Z"; }

function undo() {
  if (past.length === 0) return;
  closeReason();
  pending = past.pop();
  remember();
  refresh();
}

// The reason of a rejection, asked for in the card or in the large view.
let asking = null;
function askReason(movie) {
  asking = movie;
  const place = $("large").open ? $("large") : cardOf.get(movie).querySelector(".text");
  place.append($("why"));
  $("why").hidden = false;
  $("why").querySelector("input").value = "";
  $("why").querySelector("input").focus();
}
function closeReason() {
  if (asking === null) return;
  asking = null;
  $("why").hidden = true;
  document.body.append($("why"));
  if (!$("large").open && selected) selected.focus({ preventScroll: true });
}
function keepReason() {
  const why = $("why").querySelector("input").value.trim(), decision = pending.get(asking);
  // Part of the same step: undo takes back the rejection with its reason.
  if (decision && why) pending.set(asking, Object.assign({}, decision, { why }));
  closeReason();
  remember();
  refresh();
}
$("why").addEventListener("submit", (event) => { event.preventDefault(); keepReason(); });
$("why").addEventListener("focusout", (event) => { if (asking !== null && !$("why").contains(event.relatedTarget)) keepReason(); });

function act(movie, decision) {
  if (decide(movie, decision) && decision === "reject") askReason(movie);
}

// Selection
function visible() { return Array.from(sheet.children).filter((card) => !card.hidden); }

function select(card, scroll = true) {
  if (selected) { selected.classList.remove("selected"); selected.tabIndex = -1; selected.removeAttribute("aria-current"); }
  selected = card;
  if (!card) return;
  card.classList.add("selected");
  card.tabIndex = 0;
  card.setAttribute("aria-current", "true");
  if (scroll) { card.scrollIntoView({ block: "nearest" }); if (!$("large").open) card.focus({ preventScroll: true }); }
  if ($("large").open) showLarge();
}

function move(step) {
  const shown = visible();
  if (shown.length === 0) return;
  const place = shown.indexOf(selected);
  select(shown[place < 0 ? 0 : Math.min(Math.max(place + step, 0), shown.length - 1)]);
}

function columns() { return getComputedStyle(sheet).gridTemplateColumns.split(" ").length; }

// Filter and sort
function arrange() {
  const text = $("search").value.trim().toLowerCase(), wanted = $("filter").value, by = $("sort").value;
  for (const card of cards) {
    const words = [card.dataset.movie, card.dataset.channels, ...Array.from(card.querySelectorAll(".automatic, .decided, .by, .warnings"), (part) => part.textContent)];
    const human = card.dataset.human === "true";
    const fits = { "": true, human, automatic: !human, pending: pending.has(card.dataset.movie) }[wanted] ?? card.dataset.standing === wanted;
    card.hidden = !(fits && words.join(" ").toLowerCase().includes(text));
  }
  const value = (card) => {
    if (by === "") return Number(card.dataset.place);
    if (by === "movie") return card.dataset.movie;
    if (by === "standing") return ["problem", "look", "reject", "accept"].indexOf(card.dataset.standing);
    return measuresOf.get(card)[by];
  };
  const sign = $("reverse").getAttribute("aria-pressed") === "true" ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if ((x === undefined) !== (y === undefined)) return x === undefined ? 1 : -1;   // unknown values last, always
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x === undefined ? 0 : x - y;
    return sign * order || a.dataset.place - b.dataset.place;
  };
  sheet.append(...cards.slice().sort(compare));
  $("nothing").hidden = visible().length > 0;
  if (!selected || selected.hidden) select(visible()[0] || null, false);
  count();
}

// The large view
function showLarge() {
  const dialog = $("large"), card = selected, picture = dialog.querySelector("img"), small = card.querySelector("img");
  dialog.dataset.standing = card.dataset.standing;
  $("large-name").textContent = card.dataset.movie;
  for (const part of [".badge", ".by"]) {
    const there = dialog.querySelector(part), here = card.querySelector(part);
    there.textContent = here.textContent;
    there.className = here.className;
  }
  const reasons = Array.from(card.querySelectorAll(".decided, .automatic"), (part) => part.textContent).filter(Boolean);
  dialog.querySelector(".automatic").textContent = reasons.join(" | ");
  dialog.querySelector(".panels").replaceChildren(...JSON.parse(card.dataset.panels).map((title) => {
    const span = document.createElement("span");
    span.textContent = title;
    return span;
  }));
  const channels = card.dataset.channels.split(", ");
  dialog.querySelector(".rows").textContent = channels.length > 1 ? "Rows: " + channels.join(", ") : "";
  picture.hidden = !small;
  // A page that was copied without its previews still has the small picture.
  picture.onerror = () => { picture.onerror = null; if (small) picture.src = small.src; };
  const source = small ? card.dataset.picture : "";
  if (picture.getAttribute("src") !== source) picture.setAttribute("src", source);
  picture.alt = small ? small.alt : "";
}
function openLarge() { if (selected) { $("large").showModal(); showLarge(); } }
$("large").addEventListener("close", () => { closeReason(); if (selected) selected.focus(); });
$("large").addEventListener("cancel", (event) => { if (asking !== null) { event.preventDefault(); closeReason(); } });

// Export
function cell(text) {
  const line = text.replace(/\s+/g, " ");
  return line.includes('"') ? '"' + line.replaceAll('"', '""') + '"' : line;
}
function table() {
  const who = $("who").value.trim();
  const decided = (movie, row) => {
    const d = pending.get(movie);
    const changed = row.slice();
    for (const [name, text] of [["movie", movie], ["decision", d.decision], ["who", d.who || who], ["when", d.when], ["why", d.why]]) changed[COLUMN[name]] = text;
    return changed;
  };
  const blank = memory.columns.map(() => "");
  const rows = memory.rows.map((row) => (pending.has(row[COLUMN.movie]) ? decided(row[COLUMN.movie], row) : row));
  for (const movie of pending.keys()) if (!written.has(movie)) rows.push(decided(movie, blank));
  return [memory.columns, ...rows].map((row) => row.map(cell).join("\t") + "\n").join("");
}
function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/tab-separated-values" }));
  link.download = "decisions.tsv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  exported = JSON.stringify(Array.from(pending));
  remember();
  refresh();
  tell("decisions.tsv is in your downloads. Put it into " + memory.folder + " in place of the old one, and run the workflow again with the same command.");
}
function exportDecisions() {
  if ($("who").value.trim() || pending.size === 0) { download(); return; }
  $("ask-name").value = "";
  $("ask").returnValue = "";
  $("ask").showModal();
}
$("ask").addEventListener("close", () => {
  if ($("ask").returnValue !== "export") return;
  $("who").value = $("ask-name").value.trim();
  kept.write(NAME_KEY, $("who").value);
  download();
});
$("who").addEventListener("change", () => kept.write(NAME_KEY, $("who").value.trim()));

function tell(text) { $("notice-text").textContent = text; $("notice").hidden = false; }
$("dismiss").addEventListener("click", () => { $("notice").hidden = true; });

// Events
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.matches("input")) { event.preventDefault(); undo(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape" && asking !== null && !$("large").open) closeReason();
    else if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; arrange(); move(0); }
    else if (event.key === "Enter" && event.target === $("search")) move(0);
    return;
  }
  if ($("ask").open || $("manual").open) return;
  const onButton = event.target.matches("button, summary") && !event.target.matches(".look");
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -Infinity, End: Infinity };
  if ($("large").open) { steps.ArrowDown = 1; steps.ArrowUp = -1; }
  const movie = selected && selected.dataset.movie;
  if (event.key in steps) move(steps[event.key]);
  else if (event.key === "a" && movie) act(movie, "accept");
  else if (event.key === "r" && movie) act(movie, "reject");
  else if (event.key === "u" && movie) act(movie, "auto");
  else if (event.key === "z") undo();
  else if (event.key === "e" && !$("large").open) exportDecisions();
  else if (event.key === "/" && !$("large").open) $("search").focus();
  else if (event.key === "?" && !$("large").open) $("manual").showModal();
  else if (event.key === "Enter" && !onButton && !$("large").open) openLarge();
  else return;
  event.preventDefault();
});
sheet.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card || event.target.closest(".why")) return;
  select(card, !event.target.closest("details"));
  const button = event.target.closest("[data-decision]");
  if (button) act(card.dataset.movie, button.dataset.decision);
  else if (event.target.closest(".look")) openLarge();
});
$("search").addEventListener("input", arrange);
for (const id of ["filter", "sort"]) $(id).addEventListener("change", () => { arrange(); scrollTo(0, 0); });
$("reverse").addEventListener("click", () => {
  $("reverse").setAttribute("aria-pressed", String($("reverse").getAttribute("aria-pressed") !== "true"));
  arrange();
});
$("undo").addEventListener("click", undo);
$("export").addEventListener("click", exportDecisions);
$("help").addEventListener("click", () => $("manual").showModal());
// A card that is scrolled to must not hide below the bar.
new ResizeObserver(() => document.documentElement.style.setProperty("--bar-height", document.querySelector(".bar").offsetHeight + "px")).observe(document.querySelector(".bar"));
addEventListener("beforeunload", (event) => { if (!kept.works && $("pending").textContent) event.preventDefault(); });

recall();
refresh();
arrange();
