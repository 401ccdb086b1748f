"use strict";

// Tables of classes: sorted by a column, filtered by name and group, and shown in parts, because a data set may have
// thousands of classes. Rows: [name, group, training images, test images, correct, accuracy, predicted, taken for, how often].
const PART = 100;
const TAKEN_FOR = 7;

function showClasses(section) {
  const rows = JSON.parse(section.querySelector("script").textContent);
  const body = section.querySelector("tbody");
  const heads = [...section.querySelectorAll("th")];
  const [search, group, status, more] = ["input", "select", "[role=status]", ".more"].map((part) =>
    section.querySelector(part),
  );
  let column = 2;
  let descending = true;
  let shown = PART;

  const cells = (row) => {
    const taken = row[TAKEN_FOR] === null ? null : `${rows[row[TAKEN_FOR]][0]} (${row[TAKEN_FOR + 1]})`;
    return [...row.slice(0, TAKEN_FOR), taken];
  };
  const compare = (one, other) => {
    const [a, b] = [one[column], other[column]];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : a.localeCompare(b);
    return descending ? -order : order;
  };
  const text = (value, at) => {
    if (value === null) return "–";
    if (at === 5) return value.toFixed(1);
    return typeof value === "number" ? value.toLocaleString("en") : value;
  };

  function show() {
    const wanted = search.value.toLowerCase();
    const chosen = rows
      .map(cells)
      .filter((row) => row[0].toLowerCase().includes(wanted) || (row[TAKEN_FOR] ?? "").toLowerCase().includes(wanted))
      .filter((row) => !group.value || row[1] === group.value)
      .sort(compare);
    body.replaceChildren(
      ...chosen.slice(0, shown).map((row) => {
        const line = document.createElement("tr");
        row.forEach((value, at) => {
          const cell = document.createElement(at === 0 ? "th" : "td");
          if (at === 0) cell.scope = "row";
          if (typeof value === "number") cell.className = "number";
          const content = document.createElement("bdi");
          content.textContent = text(value, at);
          cell.append(content);
          line.append(cell);
        });
        return line;
      }),
    );
    const visible = Math.min(shown, chosen.length);
    status.textContent = `${visible.toLocaleString("en")} of ${chosen.length.toLocaleString("en")} classes`;
    more.hidden = visible === chosen.length;
    heads.forEach((head, at) => {
      if (head.scope !== "col") return;
      head.setAttribute("aria-sort", at !== column ? "none" : descending ? "descending" : "ascending");
    });
  }

  heads.forEach((head, at) => {
    head.querySelector("button").addEventListener("click", () => {
      // Names begin at A, numbers at the greatest.
      descending = at === column ? !descending : typeof rows[0]?.[at] === "number";
      column = at;
      show();
    });
  });
  const again = () => {
    shown = PART;
    show();
  };
  search.addEventListener("input", again);
  group.addEventListener("change", again);
  more.addEventListener("click", () => {
    shown += PART;
    show();
  });
  show();
}

document.querySelectorAll(".classes").forEach(showClasses);
