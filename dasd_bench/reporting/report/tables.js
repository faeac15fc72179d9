// Tables: a click on a heading sorts, a button saves the unrounded numbers as CSV. Without this script they are as printed.

/** The table's rows again in the order of one column within each group: best first, then reversed, empty ones last. */
function sortTable(table, values, place, down) {
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    const key = (row) => (place ? values[row.dataset.row][place - 1] : row.cells[0].textContent);
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const order = typeof x === "string" ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    body.append(...rows);
  }
}

/** Sorting and saving for one table, from its entry in the index. */
function startTable(table, { key, directions, values, csv }) {
  [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.classList.contains("group"))
    .forEach((row, i) => { row.dataset.row = i; });
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    if (place && values.every((row) => row[place - 1] === null)) return;
    const button = make("button", "sort");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // The better end first: high where more is better or nothing is said, and names from A.
      const first = place && directions[place - 1] !== "down" ? "descending" : "ascending";
      const next = before === first ? (first === "descending" ? "ascending" : "descending") : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      sortTable(table, values, place, next === "descending");
    });
  });
  const title = table.closest("section").querySelector("h3");
  const save = make("a", "save", "CSV");
  save.download = `${key}.csv`;
  save.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  save.setAttribute("aria-label", `Save ${title.textContent} as CSV, unrounded`);
  const link = make("a", "anchor", "#");
  link.href = `#${title.id}`;
  link.setAttribute("aria-label", `Link to ${title.textContent}`);
  title.append(link, save);
}

const TABLES = "section.card > .scroll > table";

function startTables() {
  const { tables, baselines } = JSON.parse($("index").textContent);
  document.querySelectorAll(TABLES).forEach((table, number) => startTable(table, tables[number]));
  startBaselines(baselines);
}

/** The menu that switches the baseline: the verdict and the table of scores against each row are in the page. */
function startBaselines(baselines) {
  const parts = [...document.querySelectorAll("template.baseline")];
  if (!parts.length) return;
  const select = make("select");
  select.id = "baseline";
  select.append(...baselines.map(({ label, shown }, i) => new Option(label, i, shown, shown)));
  $("scores").after(make("p", "switch", "", make("label", "", "Differences and tests against ", select)));
  select.addEventListener("change", () => {
    const { label, verdict, ...data } = baselines[select.value];
    const section = parts[select.value].content.firstElementChild.cloneNode(true);
    $("table-scores").closest("section").replaceWith(section);
    startTable(section.querySelector("table"), data);
    $("verdict").textContent = verdict;
    dispatchEvent(new CustomEvent("baseline", { detail: label }));
  });
}

/** What a viewer shows, in the address: `#tokens?set=1&id=...`, so that a link opens the same example. */
function writeLink(section, fields) {
  const text = `#${section}?${new URLSearchParams(fields)}`;
  try { history.replaceState(null, "", text); } catch { /* a sandboxed frame may not */ }
}

/** The fields of a link into `section`; null where the address is not one. */
function readLink(section) {
  const [name, fields] = location.hash.slice(1).split("?");
  return name === section && fields ? Object.fromEntries(new URLSearchParams(fields)) : null;
}
