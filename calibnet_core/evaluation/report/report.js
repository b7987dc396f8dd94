"use strict";
(() => {
  const table = document.getElementById("image-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const field = (name) => document.getElementById("filter-" + name);

  // Undefined figures have an empty value and come last in either order.
  const valueOf = (row, column, kind) => {
    const value = row.cells[column].dataset.value;
    if (kind === "text") return value;
    return value === "" ? null : Number(value);
  };

  const compare = (first, second) => {
    if (typeof first === "string") return first.localeCompare(second, "en", { numeric: true });
    return first - second;
  };

  const sortBy = (heading) => {
    const column = heading.cellIndex;
    const isAscending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
    const keyed = rows.map((row) => [valueOf(row, column, heading.dataset.kind), row]);
    keyed.sort(([first], [second]) => {
      if (first === null || second === null) return (first === null) - (second === null);
      return isAscending ? compare(first, second) : compare(second, first);
    });
    body.append(...keyed.map(([, row]) => row));
  };

  // An empty field sets no limit; an undefined figure lies within no limits.
  const isWithin = (text, low, high) => {
    if (low === "" && high === "") return true;
    if (text === "") return false;
    const value = Number(text);
    return (low === "" || value >= Number(low)) && (high === "" || value <= Number(high));
  };

  const filter = () => {
    const words = field("text").value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const scene = field("scene").value;
    const limits = ["f-low", "f-high", "score-low", "score-high"].map((name) => field(name).value);
    let count = 0;
    for (const row of rows) {
      const text = row.dataset.text;
      const isShown =
        words.every((word) => text.includes(word)) &&
        (scene === "" || row.cells[1].dataset.value === scene) &&
        isWithin(row.cells[5].dataset.value, limits[0], limits[1]) &&
        isWithin(row.cells[7].dataset.value, limits[2], limits[3]);
      row.hidden = !isShown;
      if (isShown) count += 1;
    }
    shown.textContent = count + " of " + rows.length + " images";
  };

  for (const heading of table.tHead.rows[0].cells) {
    const button = heading.querySelector("button");
    if (button) button.addEventListener("click", () => sortBy(heading));
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are emptied only after this event.
  form.addEventListener("reset", () => setTimeout(filter, 0));

  const dialog = document.getElementById("enlarged");
  for (const button of document.querySelectorAll(".enlarge")) {
    button.addEventListener("click", () => {
      document.getElementById("enlarged-name").textContent = button.dataset.name;
      document.getElementById("enlarged-pair").replaceChildren(
        ...Array.from(button.querySelectorAll(".picture"), (picture) => picture.cloneNode(true)),
      );
      dialog.showModal();
    });
  }
  document.getElementById("enlarged-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  // A browser may restore what was typed before a reload.
  filter();
})();
