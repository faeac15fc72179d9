// The token viewer: one set (run, method, seed) at a time, its columns as typed arrays, one example in the document.

const NO_PROPOSAL = 2 ** 32 - 1;
const ORIGINS = ["gold", "candidate", "base"];
const MARKS = ["", "answer format", "end of turn"];
/** Lower ends, in nats, of the five colours of surprise. */
const SURPRISE = [0.1, 0.5, 1, 2, 4];
const THOUSAND = 1000;
const LIVE = "Weights were decided on the live model during training; static weights are shown.";

/** Why a method's own answer was not taken, in words: `gold:no_answer` is "no answer", `wrong` is only one of several. */
const refusal = (reason) => reason.slice(reason.indexOf(":") + 1).replaceAll("_", " ");

const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
const perplexity = (nll) => (nll > 9 ? Math.exp(nll).toExponential(1) : Math.exp(nll).toFixed(2));
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

function surpriseClass(nll) {
  let level = 0;
  while (level < SURPRISE.length && nll >= SURPRISE[level]) level++;
  return `n${level}`;
}

/** A token's text as it can be seen: line breaks and lone blanks get a sign. */
function visible(piece) {
  if (piece === "") return "∅";
  return piece.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ +$/, (s) => "·".repeat(s.length));
}

/** Loads a set and counts what the filters and the list need, per example. */
async function loadSet(entry) {
  const names = Object.keys(entry.columns);
  const columns = await Promise.all(names.map((name) => columnOf(entry.columns[name])));
  const set = Object.fromEntries(names.map((name, i) => [name, columns[i]]));
  set.online = entry.online === 1;
  set.notes = entry.notes;
  set.labels = entry.labels ?? [];
  [set.pieces, set.prompts, set.about] = await Promise.all(
    [entry.pieces, entry.prompts, entry.about].map(jsonOf));
  const count = set.about.length;
  set.start = new Uint32Array(count + 1);
  set.nll = new Float64Array(count);
  set.replaced = new Uint32Array(count);
  set.zero = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const from = set.start[i], to = from + set.length[i];
    set.start[i + 1] = to;
    let sum = 0;
    for (let t = from; t < to; t++) {
      sum -= set.logp[t];
      if ((set.flags[t] & 15) === 2) set.replaced[i]++;
      if (set.weight[t] === 0) set.zero[i]++;
    }
    set.nll[i] = sum / THOUSAND / Math.max(1, to - from);
  }
  set.search = set.about.map((about, i) => {
    const words = Array.from(set.token.subarray(set.start[i], set.start[i + 1]), (t) => set.pieces[t]).join("");
    return `${about[0]}\n${set.prompts[i][0]}\n${words}`.toLowerCase();
  });
  return set;
}

async function tokenViewer() {
  const entries = JSON.parse($("index").textContent).tokens;
  const several = new Set(entries.map((e) => e.run)).size > 1;
  const seeds = new Set(entries.map((e) => e.seed)).size > 1;
  entries.forEach((e, i) => {
    const name = [several ? e.run : "", e.method, seeds ? `seed ${e.seed}` : ""].filter(Boolean).join(", ");
    $("tv-set").append(new Option(name, i));
    $("tv-beside").append(new Option(name, i));
  });
  // A method that replaces tokens shows most of what the viewer can do.
  const first = entries.findIndex((e) => "proposal" in e.columns);
  const link = readLink("tokens");
  const linked = link ? entries.findIndex((e) => e.run === link.run && e.method === link.method && String(e.seed) === link.seed) : -1;
  $("tv-set").value = linked >= 0 ? linked : Math.max(0, first);
  let set = await loadSet(entries[$("tv-set").value]);
  let ready = false;
  /** The set whose target of the same example is shown below, and its name. */
  let beside = null;
  let shown = -1;
  let cursor = 0;

  const list = new VirtualList($("tv-list"), drawRow, showExample);

  function drawRow(i, node) {
    const [id, , accepted, reason] = set.about[i];
    const facts = [`PPL ${perplexity(set.nll[i])}`, `${set.length[i]} tokens`];
    if (set.replaced[i]) facts.push(`${set.replaced[i]} replaced`);
    const line = make("span", "", facts.join(" · "));
    if (!accepted) line.append(make("span", "bad", ` · ${refusal(reason)}`));
    node.append(make("b", "", id), line);
  }

  function filter() {
    const k = Math.log(Math.max(1, Number($("tv-k").value) || 1));
    const words = $("tv-search").value.trim().toLowerCase();
    const rows = [];
    for (let i = 0; i < set.about.length; i++) {
      if ($("tv-replaced").checked && !set.replaced[i]) continue;
      if ($("tv-high").checked && set.nll[i] <= k) continue;
      if ($("tv-wrong").checked && set.about[i][2]) continue;
      if (words && !set.search[i].includes(words)) continue;
      rows.push(i);
    }
    const key = { ppl: set.nll, replaced: set.replaced, length: set.length }[$("tv-sort").value];
    if (key) rows.sort((a, b) => key[b] - key[a] || a - b);
    shown = -1;
    list.show(rows);
    const named = rows.length === set.about.length ? `${rows.length} examples` : `${rows.length} of ${set.about.length} examples match the filters`;
    $("tv-status").textContent = named;
  }

  function showExample(i) {
    const pane = $("tv-detail");
    if (i === shown && i >= 0) return;
    shown = i;
    if (i < 0) { pane.replaceChildren(make("p", "empty", "No example matches these filters.")); return; }
    const [id, task, accepted, reason, notes] = set.about[i];
    if (ready) {
      const { run, method, seed } = entries[$("tv-set").value];
      writeLink("tokens", { run, method, seed, id });
    }
    const from = set.start[i], size = set.length[i];
    const head = make("h3", "", id, make("span", "badge", task), make("span", accepted ? "badge good" : "badge bad", accepted ? reason : `own answer rejected: ${refusal(reason)}`));
    const facts = [`PPL ${perplexity(set.nll[i])}`, `${size} tokens`];
    if (set.replaced[i]) facts.push(`${set.replaced[i]} (${percent(set.replaced[i] / size)}) from the base`);
    if (set.zero[i]) facts.push(`${set.zero[i]} (${percent(set.zero[i] / size)}) with weight 0`);
    for (const [name, title, how] of set.notes) {
      if (how === "sum" && notes[name]) facts.push(notes[name] === 1 ? title : `${title} ${notes[name]}`);
    }
    const gold = make("details", "", "", make("summary", "", "Gold answer"), make("div", "text", set.prompts[i][1]));
    const box = make("div", "tokens");
    box.setAttribute("role", "listbox");
    box.setAttribute("aria-orientation", "horizontal");
    box.setAttribute("aria-label", `Target of ${id}: ${size} tokens. Arrow keys move.`);
    for (let t = from; t < from + size; t++) box.append(tokenNode(set, i, t));
    const inspector = make("div", "inspector");
    const live = make("dl");
    live.setAttribute("aria-live", "polite");
    inspector.append(live, hint());
    const other = beside ? otherTarget(id, live) : [];
    pane.replaceChildren(head, make("p", "hint", facts.join(" · ")), make("h4", "", "Prompt"), make("div", "text", set.prompts[i][0]), gold, make("h4", "", "Target"), legend(), ...(set.online ? [make("p", "hint live", LIVE)] : []), box, ...other, make("div", "grow"), inspector);
    pane.scrollTop = 0;
    cursor = 0;
    mark(box, 0, false);
    box.addEventListener("pointerover", (event) => { const t = event.target.closest(".t"); if (t) inspect(live, set, from + place(t)); });
    box.addEventListener("pointerleave", () => inspect(live, set, from + cursor));
    box.addEventListener("click", (event) => { const t = event.target.closest(".t"); if (t) mark(box, place(t), true); });
    box.addEventListener("focusin", (event) => { if (place(event.target) !== cursor) mark(box, place(event.target), false); });
    box.addEventListener("keydown", (event) => move(event, box));

    function mark(holder, at, focus) {
      const nodes = holder.children;
      nodes[cursor].tabIndex = -1;
      nodes[cursor].setAttribute("aria-selected", "false");
      cursor = at;
      nodes[at].tabIndex = 0;
      nodes[at].setAttribute("aria-selected", "true");
      nodes[at].setAttribute("aria-label", spoken(set, from + at, at, size));
      if (focus) nodes[at].focus();
      inspect(live, set, from + at);
    }

    function move(event, holder) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const notable = set.label ? (t) => set.label[t] > 0 : (t) => (set.flags[t] & 15) === 2 || set.weight[t] === 0 || -set.logp[t] / THOUSAND > Math.log(Number($("tv-k").value) || 2.5);
      let at = cursor;
      if (event.key === "ArrowRight") at++;
      else if (event.key === "ArrowLeft") at--;
      else if (event.key === "Home") at = 0;
      else if (event.key === "End") at = size - 1;
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") at = otherLine(holder, event.key === "ArrowDown" ? 1 : -1);
      else if (event.key === "n") { do at++; while (at < size && !notable(from + at)); if (at >= size) at = cursor; }
      else if (event.key === "p") { do at--; while (at >= 0 && !notable(from + at)); if (at < 0) at = cursor; }
      else return;
      event.preventDefault();
      mark(holder, Math.max(0, Math.min(size - 1, at)), true);
    }

    /** The token above or below the marked one: the nearest in x of the next line in that direction. */
    function otherLine(holder, step) {
      const nodes = holder.children;
      const here = nodes[cursor].getBoundingClientRect();
      let best = cursor, line = null, gap = Infinity;
      for (let at = cursor + step; at >= 0 && at < nodes.length; at += step) {
        const rect = nodes[at].getBoundingClientRect();
        if (Math.abs(rect.top - here.top) < 4) continue;
        line ??= rect.top;
        if (Math.abs(rect.top - line) > 4) break;
        const away = Math.abs(rect.left - here.left);
        if (away < gap) { gap = away; best = at; }
      }
      return best;
    }
  }

  const place = (node) => Number(node.dataset.t);

  /** The label of a token: its name, or an empty text. */
  const labelOf = (set, t) => (set.label && set.label[t] ? set.labels[set.label[t] - 1] : "");

  /** The other method's target for an example; its tokens show their numbers under the pointer. */
  function otherTarget(id, live) {
    const title = make("h4", "", `Target of ${beside.name}`);
    const i = beside.set.about.findIndex((about) => about[0] === id);
    if (i < 0) return [title, make("p", "hint", "This method has no target for the example.")];
    const box = make("div", "tokens beside");
    const from = beside.set.start[i], size = beside.set.length[i];
    for (let t = from; t < from + size; t++) box.append(tokenNode(beside.set, i, t));
    for (const node of box.children) { node.removeAttribute("role"); node.removeAttribute("aria-selected"); }
    box.addEventListener("pointerover", (event) => { const t = event.target.closest(".t"); if (t) inspect(live, beside.set, from + place(t)); });
    return [title, make("p", "hint", `PPL ${perplexity(beside.set.nll[i])} · ${size} tokens`), box];
  }

  function tokenNode(set, i, t) {
    const flags = set.flags[t] & 15;
    const weight = set.weight[t];
    let name = `t ${surpriseClass(-set.logp[t] / THOUSAND)}`;
    if (flags) name += ` o${flags}`;
    if (weight === 0) name += " w0";
    else if (weight !== THOUSAND) name += " w1";
    if (labelOf(set, t)) name += ` l-${labelOf(set, t)}`;
    const piece = set.pieces[set.token[t]];
    const node = make("span", name);
    if (piece.includes("\n")) {
      for (const part of piece.split(/(\n)/)) {
        if (part === "\n") node.append(make("span", "nl", "↵"), "\n");
        else node.append(part);
      }
    } else node.textContent = piece === "" ? "∅" : piece;
    node.dataset.t = t - set.start[i];
    node.tabIndex = -1;
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", "false");
    return node;
  }

  function numbers(set, t) {
    const nll = -set.logp[t] / THOUSAND;
    const other = set.proposal ? set.proposal[t] : NO_PROPOSAL;
    const origin = set.flags[t] & 15;
    const rows = [
      ["Token", visible(set.pieces[set.token[t]]), true],
      ["Probability", percent(Math.exp(-nll))],
      ["log p, nats", fixed(-nll, 3)],
      ["Token PPL", perplexity(nll)],
      ["Rank", set.rank[t] === 0 ? "1, the likeliest" : String(set.rank[t] + 1)],
      ["Top-1 probability", percent(Math.exp(set.top1[t] / THOUSAND))],
      ["Entropy, nats", fixed(set.entropy[t] / THOUSAND, 3)],
      ["Origin", ORIGINS[origin]],
      [set.online ? "Static weight" : "Weight", fixed(set.weight[t] / THOUSAND, set.weight[t] % THOUSAND ? 3 : 0)],
    ];
    if (other !== NO_PROPOSAL) {
      const same = other === set.token[t];
      rows.push([origin === 2 ? "Candidate stream's proposal" : "Base stream's proposal", same ? "the same" : visible(set.pieces[other]), !same]);
    }
    const use = MARKS[set.flags[t] >> 4];
    if (use) rows.push(["Marked as", use]);
    if (labelOf(set, t)) rows.push(["Label", labelOf(set, t)]);
    return rows;
  }

  function inspect(target, set, t) {
    target.replaceChildren(...numbers(set, t).map(([name, value, code]) => {
      const dd = code ? make("dd", "", "", make("code", "", value)) : make("dd", "", value);
      return make("div", "", "", make("dt", "", name), dd);
    }));
  }

  const spoken = (set, t, at, size) =>
    `${at + 1} of ${size}. ${numbers(set, t).map(([name, value]) => `${name} ${value}`).join(", ")}`;

  function legend() {
    const scale = make("span", "scale", "likely ");
    for (let level = 0; level <= SURPRISE.length; level++) {
      const swatch = make("i", `n${level}`);
      swatch.title = level === 0 ? `nll below ${SURPRISE[0]}` : `nll from ${SURPRISE[level - 1]} nats`;
      scale.append(swatch);
    }
    scale.append(" unlikely under the base");
    const box = make("div", "legend", "", scale);
    for (const [name, text] of [["o1", "candidate"], ["o2", "from the base"], ["", "gold"], ["w0", "weight 0"], ["w1", "other weight"]]) {
      box.append(make("span", `sample ${name}`, text));
    }
    for (const name of set.labels) box.append(make("span", `sample t l-${name}`, name));
    return box;
  }

  function hint() {
    const keys = make("p", "hint");
    for (const [key, what] of [["← → ↑ ↓", "move"], ["n", set.label ? "next labelled token" : "next replaced, surprising or excluded token"], ["p", "previous one"]]) {
      if (keys.childNodes.length) keys.append(", ");
      keys.append(make("kbd", "", key), ` ${what}`);
    }
    return keys;
  }

  $("tv-set").addEventListener("change", async () => {
    const id = shown >= 0 ? set.about[shown][0] : "";
    set = await loadSet(entries[$("tv-set").value]);
    // The same example of another method: that is the comparison one switches for.
    const same = set.about.findIndex((about) => about[0] === id);
    list.rows = same >= 0 ? [same] : [];
    list.selected = same >= 0 ? 0 : -1;
    filter();
  });
  $("tv-beside").addEventListener("change", async () => {
    const { value, selectedOptions } = $("tv-beside");
    beside = value === "" ? null : { set: await loadSet(entries[value]), name: selectedOptions[0].text };
    filter();
  });
  for (const id of ["tv-replaced", "tv-high", "tv-wrong", "tv-sort"]) $(id).addEventListener("change", filter);
  $("tv-k").addEventListener("input", filter);
  $("tv-search").addEventListener("input", quiet(filter, 60));
  $("token-viewer").querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  const telling = set.replaced.findIndex((count) => count > 0);
  const wanted = linked >= 0 ? set.about.findIndex((about) => about[0] === link.id) : -1;
  list.rows = [Math.max(0, wanted >= 0 ? wanted : telling)];
  list.selected = 0;
  filter();
  ready = true;
  if (linked >= 0) $("tokens").scrollIntoView();
}
