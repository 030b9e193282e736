// Tables sort by a click (or Enter) on a header; a table with a filter shows the rows that hold all words typed.
"use strict";
function cellValue(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace("\u2212", "-"));
  if (text === "" || text === "\u2013") return null;
  return Number.isNaN(number) ? text.toLowerCase() : number;
}
function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}
function sortBy(table, header, column) {
  const first = header.classList.contains("num") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).map((row) => ({ row, value: cellValue(row, column) }));
  rows.sort((a, b) => {
    // Rows without a value stay last, whichever way the others go.
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return order === "ascending" ? compare(a.value, b.value) : compare(b.value, a.value);
  });
  for (const { row } of rows) body.append(row);
}
for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    if (!header.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, header, column));
    header.append(button);
  });
}
for (const table of document.querySelectorAll("table[data-filter]")) {
  const bar = document.createElement("div");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("span");
  bar.className = "filter";
  input.type = "search";
  input.placeholder = table.dataset.filter;
  label.append("Show rows with ", input);
  count.setAttribute("role", "status");
  bar.append(label, count);
  table.closest(".scroll").before(bar);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length}` : "";
  });
}
