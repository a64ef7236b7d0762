/* Tables sort by their heads: once, the other way round, and back as they were. Links open what is folded. */
"use strict";
(function () {
  const numbers = new Intl.Collator("en", { numeric: true });
  const keyOf = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
  const isAbsent = (key) => key === "" || key === "–";

  function sort(table, column, order) {
    const body = table.tBodies[0];
    const rows = table.sortable.slice();
    const keys = rows.map((row) => keyOf(row, column)).filter((key) => !isAbsent(key));
    const isNumeric = keys.length > 0 && keys.every((key) => Number.isFinite(Number(key)));
    if (order) {
      rows.sort((one, two) => {
        const [a, b] = [keyOf(one, column), keyOf(two, column)];
        if (isAbsent(a) || isAbsent(b)) return isAbsent(a) - isAbsent(b); // at the end both ways
        return (isNumeric ? Number(a) - Number(b) : numbers.compare(a, b)) * (order === "descending" ? -1 : 1);
      });
    }
    body.append(...rows);
    for (const [n, head] of [...table.tHead.rows[0].cells].entries()) {
      if (n === column && order) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    }
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    table.sortable = [...table.tBodies[0].rows];
    if (table.sortable.length < 2) continue;
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const order = (first, second) => ({ [first]: second, [second]: "" })[head.getAttribute("aria-sort")] ?? first;
      button.addEventListener("click", () => {
        const isNumeric = table.sortable.some((row) => row.cells[column].dataset.key);
        sort(table, column, isNumeric ? order("descending", "ascending") : order("ascending", "descending"));
      });
    }
  }

  function unfold() {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  }
  window.addEventListener("hashchange", unfold);
  unfold();
  document.body.dataset.ready = "yes";
})();
