// The answer viewer: one test item at a time, what the untrained model and the methods wrote for it.

async function answerViewer() {
  const { answers: entries, baselines } = JSON.parse($("index").textContent);
  const several = new Set(entries.map((e) => e.run)).size > 1;
  entries.forEach((e, i) => $("av-set").append(new Option(several ? `${e.run}, ${e.task}` : e.task, i)));
  const link = readLink("answers");
  const linked = link ? entries.findIndex((e) => e.run === link.run && e.task === link.task) : -1;
  if (linked >= 0) $("av-set").value = linked;
  let set = null;
  let baseline = "";
  let ready = false;
  let shown = -1;
  const list = new VirtualList($("av-list"), drawRow, showItem);

  const name = (column) => (column.seed === null ? column.method : `${column.method}, seed ${column.seed}`);
  const words = (reason) => reason.replaceAll("_", " ");
  const chosen = () => Number($("av-method").value);
  /** The baseline's answers: those of the chosen column's seed where it has that one. */
  function base() {
    const columns = set.columns.filter((c) => c.method === baseline);
    return columns.find((c) => c.seed === set.columns[chosen()].seed) ?? columns[0];
  }
  const right = (column, i) => column.rows[i][2] > 0.5;
  /** The recorded reason: a wrong answer, none found, one cut off and a failure of the machinery are different things. */
  const outcome = (column, i) => column.rows[i][3] || (right(column, i) ? "correct" : "wrong");

  async function load() {
    const entry = entries[$("av-set").value];
    const items = await jsonOf(entry.items);
    const columns = await Promise.all(entry.columns.map(async (c) => ({ ...c, rows: await jsonOf(c.answers) })));
    const before = set ? name(set.columns[chosen()]) : "";
    set = { items, columns };
    set.search = items.map(([id, prompt]) => `${id}\n${prompt}`.toLowerCase());
    $("av-method").replaceChildren(...columns.map((c, i) => new Option(name(c), i)));
    const same = columns.findIndex((c) => name(c) === before);
    $("av-method").value = same >= 0 ? same : columns.findIndex((c) => c.seed !== null) >= 0 ? columns.findIndex((c) => c.seed !== null) : 0;
    const found = new Set(columns.flatMap((c) => items.map((_, i) => outcome(c, i))));
    const kept = $("av-outcome").value;
    $("av-outcome").replaceChildren(new Option("all", ""), ...[...found].sort().map((name) => new Option(words(name), name)));
    $("av-outcome").value = found.has(kept) ? kept : "";
    list.rows = [];
    filter();
  }

  function verdict(column, i) {
    const [, , score, reason] = column.rows[i];
    const text = reason ? words(reason) : String(score);
    return [right(column, i) ? "good" : "bad", text];
  }

  function drawRow(i, node) {
    const [kind, text] = verdict(set.columns[chosen()], i);
    const line = make("span", "", "", make("span", kind, text));
    const before = base();
    if (before && before !== set.columns[chosen()]) line.append(` · ${baseline} ${verdict(before, i)[1]}`);
    node.append(make("b", "", set.items[i][0]), line);
  }

  function filter() {
    const column = set.columns[chosen()];
    const wanted = $("av-outcome").value;
    const sought = $("av-search").value.trim().toLowerCase();
    const other = base();
    const rows = [];
    for (let i = 0; i < set.items.length; i++) {
      const ok = right(column, i);
      const before = other ? right(other, i) : ok;
      if (wanted && outcome(column, i) !== wanted) continue;
      if ($("av-won").checked && !(ok && !before)) continue;
      if ($("av-lost").checked && !(!ok && before)) continue;
      if (sought && !set.search[i].includes(sought)) continue;
      rows.push(i);
    }
    shown = -1;
    list.show(rows);
    $("av-status").textContent = rows.length === set.items.length ? `${rows.length} items` : `${rows.length} of ${set.items.length} items match the filters`;
  }

  function showItem(i) {
    const pane = $("av-detail");
    if (i === shown && i >= 0) return;
    shown = i;
    if (i < 0) { pane.replaceChildren(make("p", "empty", "No item matches these filters.")); return; }
    if (ready) {
      const { run, task } = entries[$("av-set").value];
      writeLink("answers", { run, task, method: name(set.columns[chosen()]), id: set.items[i][0] });
    }
    const cards = make("div", "answers");
    for (const column of set.columns) {
      const [completion, extracted] = column.rows[i];
      const [kind, text] = verdict(column, i);
      const head = make("h4", "", name(column), make("span", `badge ${kind}`, text));
      const found = make("p", "hint", extracted === null ? "no answer found" : `answer: ${extracted}`);
      cards.append(make("div", "", "", head, make("div", "text", completion === "" ? "(empty)" : completion), found));
    }
    pane.replaceChildren(make("h3", "", set.items[i][0]), make("h4", "", "Prompt"), make("div", "text", set.items[i][1]), cards);
    pane.scrollTop = 0;
  }

  $("av-set").addEventListener("change", load);
  for (const id of ["av-method", "av-outcome", "av-won", "av-lost"]) $(id).addEventListener("change", filter);
  $("av-search").addEventListener("input", quiet(filter, 60));
  $("answer-viewer").querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  function compareWith(label) {
    baseline = label;
    document.querySelectorAll(".against").forEach((node) => { node.textContent = label; });
    if (set) filter();
  }
  addEventListener("baseline", (event) => compareWith(event.detail));
  compareWith((baselines.find((one) => one.shown) ?? { label: "base" }).label);
  await load();
  if (linked >= 0) {
    const column = set.columns.findIndex((c) => name(c) === link.method);
    if (column >= 0) $("av-method").value = column;
    list.rows = [Math.max(0, set.items.findIndex((item) => item[0] === link.id))];
    list.selected = 0;
    filter();
    $("answers").scrollIntoView();
  }
  ready = true;
}
