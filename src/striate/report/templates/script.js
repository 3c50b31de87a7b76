"use strict";
// Tables with class "sortable": a click on a heading sorts by that column, a second one the other way round.
// A cell's data-v is what it sorts by; without one, its text.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const first = heading.classList.contains("n") ? "descending" : "ascending";
      const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
      headings.forEach((one) => one.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const compare = new Intl.Collator(undefined, { numeric: true }).compare;
      const number = heading.classList.contains("n");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * (number ? value(a) - value(b) : compare(value(a), value(b))));
      table.tBodies[0].append(...rows);
    });
  });
}
// Printing shows everything.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
