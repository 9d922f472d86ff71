"use strict";
// Sorts a table by the column whose heading is pressed; numbers by value, words by the reader's alphabet.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = button.closest("table").tBodies[0];
    const place = [...heading.parentNode.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = (row) => row.cells[place].textContent.trim();
    const rows = [...body.rows].sort((a, b) => text(a).localeCompare(text(b), undefined, { numeric: true }));
    if (down) rows.reverse();
    body.append(...rows);
  });
}
