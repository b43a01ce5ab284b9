(() => {
  const { byId, element, color, definitions, copy, significant, logTicks, logLabel, chart, tip, tooltip, axisText, grid, noAxis } = page;
  const data = JSON.parse(document.getElementById("data").textContent);

  byId("about").append(...data.about.map((text) => element("span", null, text)));
  byId("findings").append(...data.findings.map((text) => element("li", null, text)));
  byId("command").textContent = data.command;
  definitions(byId("environment"), data.environment);
  definitions(byId("settings"), data.settings);
  byId("copy-table").addEventListener("click", (event) => copy(event.currentTarget, data.markdown));
  byId("copy-command").addEventListener("click", (event) => copy(event.currentTarget, data.command));

  // ---------------------------------------------------------------- Summary

  const [head, ...rows] = data.table;
  const cells = (row, tag) => row.map((text, i) => element(i === 0 ? "th" : tag, { class: i === 0 ? "first" : null }, text));
  byId("table").append(
    element("caption", { class: "hidden" }, "One row per stage of the training."),
    element("thead", null, element("tr", null, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", null, ...rows.map((row) => element("tr", null, ...cells(row, "td"))))
  );

  // ---------------------------------------------------------------- Curves

  /** The running mean of what a curve's points say, each with half of the weight after so many points. */
  function smoothed(points) {
    const keep = 0.5 ** (1 / Math.max(1, points.length / 40));
    let sum = 0;
    let weight = 0;
    return points.map(([x, y]) => {
      sum = keep * sum + y;
      weight = keep * weight + 1;
      return [x, sum / weight];
    });
  }

  /** A curve's points on a scale that is logarithmic where they are far apart. */
  function draw(id, curve) {
    const ys = [...curve.steps, ...curve.validations].map(([, y]) => y).concat(curve.level === null ? [] : [curve.level]);
    const positive = ys.filter((y) => y > 0);
    const logarithmic = positive.length === ys.length && Math.max(...ys) > 3 * Math.min(...ys);
    const scale = (y) => (logarithmic ? Math.log10(y) : y);
    const scaled = (points) => points.map(([x, y]) => [x, scale(y)]);
    const [least, most] = [scale(Math.min(...ys)), scale(Math.max(...ys))];
    const margin = 0.06 * (most - least) || 0.05;
    const [low, high] = [least - margin, most + margin];
    const ticks = logTicks(low, high);
    const last = Math.max(...[...curve.steps, ...curve.validations].map(([x]) => x), 1);
    const line = (name, points, style) => ({ type: "line", name, symbol: "none", silent: true, data: scaled(points), ...style });
    const options = () => ({
      grid: { left: 56, right: 16, top: 24, bottom: 44 },
      tooltip: {
        ...tooltip(),
        formatter: ({ data: item }) => tip(`Step ${item[0]}`, [`${curve.what} ${significant(logarithmic ? 10 ** item[1] : item[1], 4)}`])
      },
      xAxis: {
        type: "value",
        min: 0,
        max: last,
        name: "step",
        nameLocation: "middle",
        nameGap: 28,
        nameTextStyle: axisText(),
        axisLabel: { ...axisText(), hideOverlap: true },
        axisLine: { show: true, onZero: false, lineStyle: { color: color("--strong-line") } },
        axisTick: { show: false },
        splitLine: { show: false }
      },
      yAxis: {
        type: "value",
        min: low,
        max: high,
        axisLabel: logarithmic
          ? { ...axisText(), customValues: ticks, formatter: (tick) => logLabel(tick) }
          : { ...axisText(), showMinLabel: false, showMaxLabel: false, formatter: (tick) => significant(tick) },
        ...noAxis,
        axisTick: { show: false },
        splitLine: grid()
      },
      series: [
        line("steps", curve.steps, { lineStyle: { color: color("--series-0"), width: 1, opacity: 0.25 } }),
        line("mean", smoothed(curve.steps), { lineStyle: { color: color("--series-0"), width: 2 } }),
        {
          type: "line",
          name: "held out",
          symbol: "circle",
          symbolSize: 7,
          data: scaled(curve.validations),
          itemStyle: { color: color("--series-1") },
          lineStyle: { color: color("--series-1"), width: 1.5 },
          z: 4,
          markLine:
            curve.level === null
              ? undefined
              : {
                  silent: true,
                  symbol: "none",
                  animation: false,
                  data: [{ yAxis: scale(curve.level) }],
                  lineStyle: { color: color("--base"), type: [4, 4], width: 1 },
                  label: { formatter: curve.levelName, position: "insideEndTop", color: color("--muted"), fontSize: 12 }
                }
        }
      ]
    });
    const ends = curve.validations.length > 0 ? curve.validations : curve.steps;
    const label = `${curve.title}: ${curve.what} from ${significant(ends[0][1])} to ${significant(ends[ends.length - 1][1])} over ${last} steps.`;
    chart(id, label, options);
  }

  data.curves.forEach((curve, i) => {
    const id = `curve-${i}`;
    byId("curves-pair").append(
      element("figure", null, element("figcaption", null, curve.title, " ", element("span", null, curve.note)), element("div", { class: "chart", id }))
    );
    draw(id, curve);
  });
  byId("curves-note").append(
    "Thin lines are single steps, thick ones their running mean; points are validations on the text that was held out. Scales are logarithmic where values are far apart."
  );
})();
