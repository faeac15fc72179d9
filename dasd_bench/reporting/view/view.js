"use strict";
// The viewer's pages: theme, keyboard, the list's filter and choice, and what changes while runs are at work.

const $ = (id) => document.getElementById(id);
const THEMES = ["system", "light", "dark"];
const WORKING = "running";

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("dasd-bench-theme", theme);
}

function startTheme() {
  const theme = localStorage.getItem("dasd-bench-theme");
  setTheme(THEMES.includes(theme) ? theme : "system");
  $("theme").addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  });
}

const isField = (node) => node.matches("input:not([type=checkbox]), select, textarea");
const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey && !event.defaultPrevented;

/** Every page: `/` goes to the field to filter or search by, Escape leaves a field and then the page. */
function startKeys() {
  addEventListener("keydown", (event) => {
    if (!plain(event)) return;
    const target = event.target;
    if (event.key === "/" && $("filter") && !isField(target)) {
      event.preventDefault();
      $("filter").focus();
      $("filter").select();
    } else if (event.key === "Escape" && $("home")) {
      if (isField(target)) target.blur();
      else location.assign($("home").href);
    } else if (event.key === "r" && $("report") && !isField(target)) location.assign($("report").href);
  });
}

const chosen = [];  // keys of the runs to compare, at most two, the older choice first
const rows = () => [...document.querySelectorAll("#runs tr")];
const visible = () => rows().filter((row) => !row.hidden);
const linkOf = (row) => row.querySelector("th a");

function applyFilter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows()) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  const all = rows().length, shown = visible().length;
  $("count").textContent = words.length ? `${shown} of ${all} runs` : `${all} run${all === 1 ? "" : "s"}`;
  $("none").hidden = shown > 0 || all === 0;
}

function applyChoice() {
  for (const row of rows()) row.querySelector(".pick input").checked = chosen.includes(row.dataset.key);
  const button = $("compare");
  button.hidden = chosen.length === 0;
  const two = chosen.length === 2;
  button.textContent = two ? "Compare the two" : "Choose one more to compare";
  if (two) button.href = `/compare?a=${chosen[0]}&b=${chosen[1]}`;
  else button.removeAttribute("href");
}

function choose(row) {
  if (!row?.dataset.compare) return;
  const place = chosen.indexOf(row.dataset.key);
  if (place >= 0) chosen.splice(place, 1);
  else {
    if (chosen.length === 2) chosen.shift();
    chosen.push(row.dataset.key);
  }
  applyChoice();
  if (chosen.length === 2) $("compare").focus();
}

function listKey(event) {
  if (!plain(event)) return;
  const shown = visible(), filter = $("filter");
  const here = shown.indexOf(event.target.closest?.("#runs tr"));
  const steps = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: shown.length - 1 };
  if (event.key === "Escape") {
    filter.value = "";
    chosen.length = 0;
    applyFilter();
    applyChoice();
    (here >= 0 ? linkOf(shown[here]) : visible()[0] && linkOf(visible()[0]))?.focus();
  } else if (event.target === filter && !["ArrowDown", "Enter"].includes(event.key)) return;
  else if (event.target === filter && shown.length) {
    event.preventDefault();
    if (event.key === "Enter") linkOf(shown[0]).click();
    else linkOf(shown[0]).focus();
  } else if (event.key in steps && shown.length) {
    event.preventDefault();
    const place = Math.max(0, Math.min(shown.length - 1, steps[event.key]));
    linkOf(shown[place]).focus();
  } else if (event.key === "c" && here >= 0) choose(shown[here]);
  else if (event.key === "r" && here >= 0 && shown[here].dataset.compare) location.assign(`${linkOf(shown[here]).href}/report`);
}

function startList() {
  const filter = $("filter");
  filter.value = sessionStorage.getItem("dasd-bench-filter") ?? "";
  filter.addEventListener("input", () => {
    sessionStorage.setItem("dasd-bench-filter", filter.value);
    applyFilter();
  });
  filter.form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("keydown", listKey);
  $("runs").closest("table").addEventListener("click", (event) => {
    const row = event.target.closest("#runs tr");
    if (!row || event.target.closest("a")) return;
    if (event.target.closest(".pick")) choose(row);
    else linkOf(row).click();
    applyChoice();
  });
  applyFilter();
  applyChoice();
  const first = visible()[0];
  if (first) linkOf(first).focus({ preventScroll: true });
}

/** The page of the server as it is now, put in the place of this one's list; filter, choice and focus stay. */
async function swapList() {
  const found = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  if (!rows().length) return location.reload();
  const focused = document.activeElement.closest?.("#runs tr")?.dataset.key;
  $("runs").replaceWith(document.adoptNode(found.getElementById("runs")));
  applyFilter();
  applyChoice();
  const again = rows().find((row) => row.dataset.key === focused);
  if (again && !again.hidden) linkOf(again).focus({ preventScroll: true });
}

/** Asks the server how the runs are, and shows what changed: every 2 s while one is at work, else every 10 s. */
function startWatching() {
  const isList = document.body.dataset.page === "list";
  const line = (key, status, changed) => `${key} ${status} ${status === WORKING ? "" : changed}`;
  async function look() {
    let wait = 10000;
    try {
      const runs = await (await fetch("/runs.json")).json();
      $("gone").hidden = true;
      if (isList) {
        const now = runs.map((run) => line(run.key, run.status, run.changed)).join("\n");
        const here = rows().map((row) => line(row.dataset.key, row.dataset.status, row.querySelector(".time").textContent));
        if (now !== here.join("\n")) await swapList();
      } else {
        const shown = document.querySelector("[data-progress]")?.dataset.progress;
        if (shown && !runs.some((run) => run.key === shown && run.status === WORKING)) location.reload();
      }
      for (const run of runs.filter((one) => one.status === WORKING)) {
        wait = 2000;
        const box = document.querySelector(`[data-progress="${run.key}"]`);
        if (!box) continue;
        box.querySelector("progress").value = run.share;
        const quiet = run.silent_seconds > 60 ? ` (last heard ${Math.round(run.silent_seconds / 60)} min ago)` : "";
        box.querySelector("span").textContent = run.progress + quiet;
      }
    } catch { $("gone").hidden = false; }
    setTimeout(look, wait);
  }
  look();
}

startTheme();
startKeys();
if (document.body.dataset.page === "list") startList();
if (["list", "run"].includes(document.body.dataset.page)) startWatching();
for (const select of document.querySelectorAll("[data-run]")) {
  // Another run has other rows.
  select.addEventListener("change", () => {
    for (const row of select.form.querySelectorAll("[name^=row_]")) row.value = "";
    select.form.submit();
  });
}
