"use strict";
// Sorting by a column's head, and filtering by words and by model, task and method.

const tables = [...document.querySelectorAll(".board")];
const order = new Intl.Collator("en", { numeric: true });

const cellOf = (row, place) => row.children[place];

function sortBy(table, head) {
  const place = [...head.parentNode.children].indexOf(head);
  const numbers = ["score", "change", "cost"].includes(head.dataset.key);
  // Best first for scores, cheapest first for cost, A to Z for names; the second click turns round.
  const start = ["score", "change"].includes(head.dataset.key) ? "descending" : "ascending";
  const other = start === "ascending" ? "descending" : "ascending";
  const now = head.getAttribute("aria-sort") === start ? other : start;
  for (const one of head.parentNode.querySelectorAll("[aria-sort]")) one.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", now);
  const sign = now === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  rows.sort((a, b) => {
    const [x, y] = [cellOf(a, place), cellOf(b, place)];
    if (!numbers) return sign * order.compare(x.textContent, y.textContent);
    const [p, q] = [x.dataset.value, y.dataset.value];
    // A row without the number comes last in either direction.
    if (p === "" || q === "") return (p === "") - (q === "");
    return sign * (Number(p) - Number(q));
  });
  body.append(...rows);
}

function filter() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...document.querySelectorAll("[data-field]")].filter((select) => select.value);
  let shown = 0, all = 0;
  for (const row of tables.flatMap((table) => [...table.tBodies[0].rows])) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word))
      || chosen.some((select) => row.dataset[select.dataset.field] !== select.value);
    all += 1;
    shown += !row.hidden;
  }
  document.getElementById("status").textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
}

for (const table of tables) {
  for (const head of table.querySelectorAll("thead [data-key]")) {
    head.querySelector("button").addEventListener("click", () => sortBy(table, head));
  }
}
if (document.getElementById("search")) {
  document.getElementById("search").addEventListener("input", filter);
  for (const select of document.querySelectorAll("[data-field]")) select.addEventListener("change", filter);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  filter();
}
