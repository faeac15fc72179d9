"use strict";
// What both viewers share: theme, unpacking of blocks, small helpers.

const $ = (id) => document.getElementById(id);

/** An element with a class, text and children; text is never parsed as HTML. */
function make(tag, className = "", text = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== "") node.textContent = text;
  node.append(...children);
  return node;
}

const unpacked = new Map();

/** The bytes of a block (gzip in base64), unpacked once. */
function bytesOf(name) {
  if (!unpacked.has(name)) {
    const text = atob($(`block-${name}`).textContent);
    const packed = Uint8Array.from(text, (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(name, new Response(stream).arrayBuffer());
  }
  return unpacked.get(name);
}

const jsonOf = async (name) => JSON.parse(new TextDecoder().decode(await bytesOf(name)));

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i2: Int16Array };
const columnOf = async ({ block, kind }) => new ARRAYS[kind](await bytesOf(block));

/** Runs `work` at most once per `wait` milliseconds of quiet. */
function quiet(work, wait) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(work, wait); };
}

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  try { localStorage.setItem("dasd-bench-theme", theme); } catch { /* a page opened from a file may have no storage */ }
}

function startTheme() {
  let theme = "system";
  try { theme = localStorage.getItem("dasd-bench-theme") || theme; } catch { /* as above */ }
  setTheme(THEMES.includes(theme) ? theme : "system");
  $("theme").addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  });
}

/** On paper nothing can be opened: notes, numbers and manifest are printed in full, and closed again afterwards. */
function startPrinting() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".notes, .section, .groupings")].filter((node) => !node.open);
    opened.forEach((node) => { node.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((node) => { node.open = false; }));
}

/** Starts a viewer; a failure is said in its status line instead of leaving it silent. */
async function start(id, status, viewer) {
  if (!$(id)) return;
  try {
    await viewer();
    $(id).dataset.state = "ready";
  } catch (error) {
    $(id).dataset.state = "failed";
    $(status).textContent = typeof DecompressionStream === "undefined"
      ? "This browser cannot decompress the data; use a version from 2023 or later."
      : `The data could not be decompressed (${error.message}).`;
    throw error;
  }
}

/** A page shown by a server goes back to the list of runs by Escape, unless that clears a field. */
function startHome() {
  const home = $("home");
  if (!home) return;
  addEventListener("keydown", (event) => {
    const field = event.target.closest?.("input, select");
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (field) field.blur();
    else location.assign(home.href);
  });
}
