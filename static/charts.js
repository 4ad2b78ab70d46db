// Draws the tables that charts name. The table is the truth: rows are points, cells with data-value are series.
(() => {
  "use strict";

  const language = document.documentElement.lang || "en";
  const number = (value, digits = 0) => new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
  const bytes = (units) => (value) => {
    let unit = 0;
    while (Math.abs(value) >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
    return `${number(value, unit && Math.abs(value) < 100 ? 1 : 0)} ${units[unit]}`;
  };
  const seconds = (value) => {
    if (value < 60) return `${number(value, value < 10 ? 1 : 0)} s`;
    return value < 3600 ? `${number(value / 60, 1)} min` : `${number(value / 3600, 1)} h`;
  };
  const said = { bytes: (table) => bytes(table.dataset.units.split(" ")), seconds: () => seconds };

  const read = (table) => {
    const rows = [...table.tBodies[0].rows].map((row) => ({
      name: row.cells[0].dataset.value ?? row.cells[0].textContent.trim(),
      text: row.cells[0].textContent.trim(),
      mark: row.dataset.mark,
      values: [...row.cells].slice(1).filter((cell) => cell.dataset.value !== undefined).map((cell) => Number(cell.dataset.value)),
    }));
    const heads = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
    return { rows, heads, say: said[table.dataset.unit]?.(table) ?? number };
  };

  // Whatever CSS makes of it (a variable of a variable, a mixture): a canvas says what colour that is.
  const probe = document.body.appendChild(document.createElement("span"));
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = getComputedStyle(probe).color;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
    return `rgba(${red}, ${green}, ${blue}, ${alpha / 255})`;
  };
  const palette = () => ({
    accent: colour("--accent"), good: colour("--good"), warn: colour("--warn"), bad: colour("--bad"), busy: colour("--busy"),
    calm: colour("--calm"), line: colour("--tblr-border-color"), text: colour("--tblr-secondary"), back: colour("--tblr-bg-surface"),
    body: colour("--tblr-body-color"), few: colour("--few"),
  });

  const axis = (c) => ({
    axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false }, axisLabel: { color: c.text },
    splitLine: { lineStyle: { color: c.line } },
  });
  const tooltip = (c, formatter, trigger = "item") => ({
    trigger, formatter, renderMode: "richText", // as HTML it would style itself inline, which our pages do not allow
    backgroundColor: c.back, borderColor: c.line, textStyle: { color: c.body },
  });

  // What dwarfs everything else is shown when somebody asks for it.
  const hidden = (rows, heads) => {
    const most = heads.map((_, number) => Math.max(...rows.map((row) => row.values[number])));
    return Object.fromEntries(heads.map((name, number) => [name, most[number] <= 8 * most[most.length - 1]]));
  };
  // Of seconds: a round number of seconds, minutes or hours.
  const step = (most) => [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800].find((one) => most / one <= 6);

  const kinds = {
    lines: ({ rows, heads, say }, c) => ({
      grid: { left: 8, right: 16, top: 40, bottom: 8, containLabel: true },
      legend: { type: "scroll", top: 0, left: 0, inactiveColor: c.text, inactiveBorderColor: c.text, textStyle: { color: c.text }, icon: "roundRect", selected: hidden(rows, heads) },
      tooltip: tooltip(c, (points) => [rows[points[0].dataIndex].text, ...points.map((p) => `${p.seriesName}: ${say(p.value)}`)].join("\n"), "axis"),
      xAxis: { type: "category", data: rows.map((row) => row.text), boundaryGap: false, ...axis(c), axisLabel: { color: c.text, hideOverlap: true, alignMinLabel: "left", alignMaxLabel: "right" }, splitLine: { show: false } },
      yAxis: { type: "value", ...axis(c), axisLabel: { color: c.text, formatter: say } },
      series: heads.map((name, number) => ({
        name, type: "line", showSymbol: false, data: rows.map((row) => row.values[number]),
        lineStyle: { width: 2, type: number ? "solid" : "dashed" }, color: [c.calm, c.busy, c.accent][number % 3],
        areaStyle: number === heads.length - 1 ? { opacity: .15 } : undefined,
      })),
    }),
    bars: ({ rows, say }, c) => ({
      grid: { left: 8, right: 24, top: 8, bottom: 8, containLabel: true },
      tooltip: tooltip(c, (point) => `${point.name}: ${say(point.value)}`),
      xAxis: { type: "value", interval: step(Math.max(...rows.map((row) => row.values[0]))), ...axis(c), axisLabel: { color: c.text, formatter: say, hideOverlap: true } },
      yAxis: { type: "category", inverse: true, data: rows.map((row) => row.name), ...axis(c), axisLabel: { color: c.text, width: 140, overflow: "truncate" } },
      series: [{ type: "bar", data: rows.map((row) => row.values[0]), color: c.accent, barMaxWidth: 16 }],
    }),
    treemap: ({ rows, say }, c) => ({
      tooltip: tooltip(c, (point) => `${point.name}: ${say(point.value)}`),
      series: [{
        type: "treemap", roam: false, nodeClick: false, breadcrumb: { show: false }, left: 0, right: 0, top: 0, bottom: 0,
        data: rows.filter((row) => row.values.length).slice(0, innerWidth < 768 ? 15 : 50).map((row) => ({ name: row.name, value: row.values[0], itemStyle: { color: c.accent } })),
        label: { formatter: (point) => `${point.name}\n${say(point.value)}`, color: c.back, overflow: "truncate", lineHeight: 16 },
        itemStyle: { borderColor: c.back, borderWidth: 1, gapWidth: 1 },
      }],
    }),
    calendar: ({ rows, heads }, c) => {
      const days = rows.map((row) => row.name).sort();
      const marks = { none: c.line, good: c.good, few: c.few, some: c.warn, bad: c.bad }; // Outcome.mark of backups/stats.py
      const places = Object.keys(marks);
      return {
        tooltip: tooltip(c, (point) => {
          const row = rows.find((one) => one.name === point.value[0]);
          return [row.text, ...row.values.map((value, position) => `${heads[position]}: ${number(value)}`)].join("\n");
        }),
        visualMap: {
          show: false, type: "piecewise", dimension: 1,
          pieces: Object.values(marks).map((color, value) => ({ value, color })),
        },
        calendar: {
          range: [days[0], days[days.length - 1]], left: 32, right: 8, top: 24, bottom: 0, cellSize: ["auto", 16], splitLine: { show: false },
          itemStyle: { color: "transparent", borderColor: c.back, borderWidth: 3 },
          dayLabel: { color: c.text, firstDay: 1, nameMap: names("weekday", "narrow") },
          monthLabel: { color: c.text, nameMap: names("month", "short") }, yearLabel: { show: false },
        },
        series: [{
          type: "heatmap", coordinateSystem: "calendar", data: rows.map((row) => [row.name, places.indexOf(row.mark)]),
        }],
      };
    },
  };
  const names = (what, length) => {
    const format = new Intl.DateTimeFormat(language, { [what]: length, timeZone: "UTC" });
    const days = what === "month" ? 12 : 7;
    // 2023 began on a Sunday
    return Array.from({ length: days }, (_, step) => format.format(what === "month" ? Date.UTC(2023, step, 1) : Date.UTC(2023, 0, 1 + step)));
  };

  const drawn = [...document.querySelectorAll("[data-chart]")].map((place) => {
    const table = document.getElementById(place.dataset.table);
    const numbers = table.closest("[data-numbers]");
    if (numbers) numbers.open = false; // they are open for whoever has no JavaScript
    place.classList.add("drawn");
    const chart = echarts.init(place, null, { renderer: "canvas" });
    const draw = () => chart.setOption({ animation: false, textStyle: { fontFamily: getComputedStyle(document.body).fontFamily }, ...kinds[place.dataset.chart](read(table), palette()) }, true);
    draw();
    new ResizeObserver(() => chart.resize()).observe(place);
    return draw;
  });
  new MutationObserver(() => drawn.forEach((draw) => draw())).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
})();
