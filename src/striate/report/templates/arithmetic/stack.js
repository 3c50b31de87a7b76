// The table of a stack of layers: what one unit of each sees. Comes after page.js.
"use strict";

function showStack() {
  let rows = [];
  try {
    rows = stackFields(parseStack(one("#stack").value));
    one("#stack-problem").hidden = true;
  } catch (problem) {
    one("#stack-problem").textContent = problem.message;
    one("#stack-problem").hidden = false;
    return;
  }
  const widest = rows.length ? rows.at(-1).field + 2 * rows.at(-1).jump : 1;
  const kept = rows.map((row, i) => ({ ...row, number: i + 1 })).filter((_, i) => rows.length <= 40 || i < 12 || i >= rows.length - 12);
  const lines = kept.flatMap((row, i) => {
    const bar = (shift, name) => {
      const piece = make("i", { className: name });
      piece.style.left = `${(50 + 100 * (shift - row.field / 2) / widest).toFixed(3)}%`;
      piece.style.width = `${(100 * row.field / widest).toFixed(3)}%`;
      return piece;
    };
    const cells = [row.kernel, row.stride, row.dilation, `${row.kernel - 1}·${row.dilation}·${row.before} = ${row.grown}`, row.field, row.jump];
    const line = make("tr", {}, make("td", { textContent: row.number }), ...cells.map((text) => make("td", { className: "n", textContent: text })),
      make("td", { className: "bars" }, make("div", { className: "bar-of" }, bar(0, ""), bar(-row.jump, "beside"), bar(row.jump, "beside"))));
    const gap = i && kept[i - 1].number !== row.number - 1;
    return gap ? [make("tr", {}, make("td", { colSpan: 8, className: "soft", textContent: `… ${row.number - kept[i - 1].number - 1} more` })), line] : [line];
  });
  one("#stack-table tbody").replaceChildren(...lines);
  const last = rows.at(-1);
  const known = data.stacks.find((entry) => entry.stack === one("#stack").value);
  one("#stack-example").value = known ? known.id : "";
  one("#stack-say").textContent = last ? `${rows.length} layer${rows.length > 1 ? "s" : ""}: one unit sees ${last.field.toLocaleString("en")} pixels, its neighbour the same ${last.jump.toLocaleString("en")} further on. ${known ? known.say : ""}` : "";
}

choices(one("#stack-example"), data.stacks, (entry) => `${entry.stack}: ${entry.field}`);
one("#stack-example").addEventListener("change", (event) => {
  one("#stack").value = data.stacks.find((entry) => entry.id === event.target.value).stack;
  showStack();
});
one("#stack").addEventListener("input", showStack);

one("#stack").value = data.stacks[0].stack;
showStack();
