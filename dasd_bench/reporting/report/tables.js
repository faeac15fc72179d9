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

function startTables() {
  const found = JSON.parse($("index").textContent).tables;
  document.querySelectorAll("section.card > .scroll > table").forEach((table, number) => {
    const { key, directions, values, csv } = found[number];
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
