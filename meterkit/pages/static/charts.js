"use strict";

// Draws each table that has a chart from what the table itself says. Without this script, there is the table.

(() => {
  const COLORS = ["#3b82c4", "#d9730d", "#2f9e6e", "#b5478b", "#8a6fd1", "#b08900", "#c94f4f", "#4b8f9e", "#7a7f87", "#6b8e23"];
  const HEIGHT = 260;
  const DAY = 86400;
  const STEPS = [1, 2, 5, 7, 14, 31, 92, 183, 366].map((days) => days * DAY);

  const dayOf = (at) => new Date(at * 1000).toISOString().slice(0, 10);

  const dataOf = (table) => {
    const rows = [...table.tBodies[0].rows];
    const times = rows.map((row) => Date.parse(row.querySelector("time").dateTime) / 1000);
    const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
    const columns = names.map((_, at) => rows.map((row) => Number(row.cells[at + 1].textContent.replaceAll(",", ""))));
    return { names, data: [times, ...columns] };
  };

  const draw = (table) => {
    const { names, data } = dataOf(table);
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--quiet").trim();
    const line = style.getPropertyValue("--line").trim();
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const place = document.createElement("div");
    place.className = "chart";
    place.setAttribute("aria-hidden", "true"); // the table says the same
    table.closest(".scroll").before(place);
    const plot = new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
        scales: { y: { range: (_, __, most) => [0, Math.max(most, 1) * 1.05] } },
        axes: [
          { ...axis, incrs: STEPS, space: 100, values: (_, ticks) => ticks.map(dayOf) },
          { ...axis, size: 80, values: (_, ticks) => ticks.map((each) => each.toLocaleString("en")) },
        ],
        series: [
          { label: "day", value: (_, at) => (at === null ? "" : dayOf(at)) },
          ...names.map((label, at) => ({ label, stroke: COLORS[at % COLORS.length], width: 2, points: { size: 5 } })),
        ],
      },
      data,
      place,
    );
    addEventListener("resize", () => plot.setSize({ width: place.clientWidth, height: HEIGHT }));
  };

  for (const table of document.querySelectorAll("table[data-chart]")) {
    draw(table);
  }
})();
