(() => {
  const {
    byId,
    element,
    color,
    dot,
    seriesColor,
    definitions,
    remove,
    copy,
    significant,
    percent,
    logTicks,
    logLabel,
    font,
    chart,
    tip,
    tooltip,
    axisText,
    grid,
    noAxis,
    textWidth,
    shortened
  } = page;
  const data = JSON.parse(document.getElementById("data").textContent);
  const models = data.models;
  const variants = models.slice(1);

  // ---------------------------------------------------------------- Heading

  byId("about").append(...data.about.map((text) => element("span", null, text)));
  byId("findings").append(...data.findings.map((text) => element("li", null, text)));

  // ---------------------------------------------------------------- Summary

  const table = byId("table");
  const body = element("tbody");
  const sorting = { column: -1, descending: false };

  function headCell(column, index) {
    const button = element("button", { type: "button", title: column.meaning }, column.title);
    button.append(element("span", { class: "arrow", "aria-hidden": "true" }));
    if (column.unit) {
      button.append(element("small", null, column.unit));
    }
    button.addEventListener("click", () => sort(index));
    return element("th", { scope: "col", class: index === 0 ? "first" : null }, button);
  }

  function bodyRow(row, model) {
    const name = element("th", { scope: "row", class: "first" }, dot(model), element("bdi", { class: "name" }, row.name));
    if (row.base && variants.length > 0) {
      name.append(element("span", { class: "tag" }, "base"));
    }
    const tr = element("tr", null, name);
    if (row.failure) {
      tr.append(element("td", { class: "failure", colspan: data.columns.length - 1 || null }, row.failure));
    } else {
      tr.append(
        ...row.cells.slice(1).map(([text, note, , best]) => {
          const cell = element("td", null, best ? element("b", { title: "best" }, text) : text);
          if (note) {
            cell.append(element("small", null, note));
          }
          return cell;
        })
      );
    }
    return tr;
  }

  /** The base stays at the top, failed models at the bottom. */
  function sort(column) {
    const highestFirst = data.columns[column].best === "HIGHEST";
    if (sorting.column !== column) {
      Object.assign(sorting, { column, descending: highestFirst });
    } else if (sorting.descending === highestFirst) {
      sorting.descending = !highestFirst;
    } else {
      sorting.column = -1;
    }
    const order = data.rows.map((_, i) => i).slice(1);
    if (sorting.column >= 0) {
      const key = (i) => (data.rows[i].failure ? null : column === 0 ? data.rows[i].name : data.rows[i].cells[column][2]);
      order.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) {
          return (x === null) - (y === null);
        }
        const way = column === 0 ? x.localeCompare(y, "en", { numeric: true }) : x - y;
        return sorting.descending ? -way : way;
      });
    }
    body.append(...[0, ...order].map((i) => rows[i]));
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      const active = i === sorting.column;
      cell.toggleAttribute("aria-sort", active);
      if (active) {
        cell.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
      }
      cell.querySelector(".arrow").textContent = active ? (sorting.descending ? " ↓" : " ↑") : "";
    });
  }

  const rows = data.rows.map(bodyRow);
  body.append(...rows);
  table.append(
    element("caption", { class: "hidden" }, "One row per model; the headings sort."),
    element("thead", null, element("tr", null, ...data.columns.map(headCell))),
    body
  );
  const sortable = element("span", { class: "screen" }, " Select a heading to sort.");
  if (data.rows.some((row) => row.cells.some((cell) => cell[3]))) {
    byId("table-note").append(
      element("b", null, "Best"),
      " of the variants; several where they differ by less than the uncertainty.",
      sortable
    );
  } else if (variants.length > 1) {
    byId("table-note").append(sortable);
  } else {
    remove("table-note");
  }

  byId("copy-table").addEventListener("click", (event) => copy(event.currentTarget, data.markdown));
  byId("copy-command").addEventListener("click", (event) => copy(event.currentTarget, data.command));

  // ---- Accuracy against size and speed

  const scored = variants
    .map((variant, i) => ({ ...variant, index: i + 1, failed: data.rows[i + 1].failure !== null }))
    .filter((variant) => !variant.failed && typeof variant.kld === "number");

  /** Variants that no other beats in both respects, by ascending x. */
  function front(points, higherIsBetter) {
    const sorted = [...points].sort((a, b) => (higherIsBetter ? b.x - a.x : a.x - b.x) || a.y - b.y);
    const best = [];
    for (const point of sorted) {
      if (best.length === 0 || point.y < best[best.length - 1].y) {
        best.push(point);
      }
    }
    return best.sort((a, b) => a.x - b.x);
  }

  /**
   * Finds places for the labels of points: right, left, above or below, whichever is free of other labels and points and in the chart.
   * A label that fits nowhere is left out: the tooltip has it.
   */
  function placeLabels(instance, points, bounds) {
    const size = 12;
    const height = 15;
    const at = points.map((p) => instance.convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 }, [p.x, p.y]));
    const taken = at.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
    const free = ([left, top, right, bottom]) =>
      left >= bounds[0] &&
      right <= bounds[2] &&
      top >= bounds[1] &&
      bottom <= bounds[3] &&
      taken.every(([l, t, r, b]) => right <= l || left >= r || bottom <= t || top >= b);
    return points.map((point, i) => {
      const text = shortened(point.name, size, 150);
      const width = textWidth(text, size);
      const [x, y] = at[i];
      const candidates = [
        [x + 9, y - height / 2],
        [x - 9 - width, y - height / 2],
        [x + 5, y - 8 - height],
        [x - 5 - width, y + 8],
        [x + 5, y + 8],
        [x - 5 - width, y - 8 - height],
        [x - width / 2, y - 9 - height],
        [x - width / 2, y + 9],
        // Further out, with a line that leads to the point.
        ...[1, 2, 3, 4].flatMap((far) => [
          [x + 14 + 10 * far, y - height / 2 - 16 * far],
          [x - 14 - 10 * far - width, y - height / 2 + 16 * far],
          [x + 14 + 10 * far, y - height / 2 + 16 * far],
          [x - 14 - 10 * far - width, y - height / 2 - 16 * far]
        ])
      ];
      const place = candidates.find(([left, top]) => free([left, top, left + width, top + height]));
      if (!place) {
        return { show: false };
      }
      taken.push([place[0], place[1], place[0] + width, place[1] + height]);
      return {
        show: true,
        leader: candidates.indexOf(place) > 7 ? [place[0] > x ? place[0] - 2 - x : place[0] + width + 2 - x, place[1] + height / 2 - y] : null,
        formatter: () => text,
        position: [place[0] - x + 5, place[1] - y + 5],
        color: color("--text"),
        fontSize: size,
        lineHeight: height,
        textBorderColor: color("--page"),
        textBorderWidth: 3
      };
    });
  }

  function tradeoff(id, points, base, settings) {
    const positive = points.map((p) => p.kld).filter((kld) => kld > 1e-6);
    // Zero has no place on a logarithmic scale: it is shown a little below the rest.
    const floor = Math.min(...positive, 1) / 2;
    points.forEach((p) => (p.y = Math.log10(Math.max(p.kld, floor))));
    const ys = points.map((p) => p.y);
    const margin = Math.max(0.12, 0.08 * (Math.max(...ys) - Math.min(...ys)));
    const [low, high] = [Math.min(...ys) - margin, Math.max(...ys) + margin];
    const own = points.flatMap((p) => (p.low === undefined ? [p.x] : [p.low, p.high]));
    const [least, most] = [Math.min(...own), Math.max(...own)];
    // A base that is far away would crowd the variants: then its value is written at that side.
    const far = base === null ? 0 : base > most + 0.6 * (most - least) ? 1 : base < least - 0.6 * (most - least) ? -1 : 0;
    const xs = base === null || far ? own : [...own, base];
    const room = 0.08 * (Math.max(...xs) - Math.min(...xs)) || 0.1 * Math.max(...xs);
    const [start, end] = [Math.max(0, Math.min(...xs) - room), Math.max(...xs) + room];
    const ticks = logTicks(low, high);
    const best = front(points, settings.higherIsBetter);
    if (points.length > 10) {
      byId(id).style.height = "500px";
    }
    const box = { left: 52, right: 16, top: 24, bottom: 44 };
    const options = () => ({
      grid: box,
      tooltip: {
        ...tooltip(),
        formatter: ({ data: item }) =>
          item.point
            ? tip(item.point.name, [
                `KL divergence ${significant(item.point.kld)} ± ${significant(item.point.kldError || 0, 2)}`,
                settings.text(item.point),
                best.includes(item.point) ? "No variant beats it in both" : "Another variant beats it in both"
              ])
            : ""
      },
      xAxis: {
        type: "value",
        min: start,
        max: end,
        name: settings.axis,
        nameLocation: "middle",
        nameGap: 28,
        nameTextStyle: axisText(),
        axisLabel: { ...axisText(), showMinLabel: false, showMaxLabel: false, hideOverlap: true },
        axisLine: { show: true, onZero: false, lineStyle: { color: color("--strong-line") } },
        axisTick: { show: false },
        splitLine: { show: false }
      },
      yAxis: {
        type: "value",
        min: low,
        max: high,
        axisLabel: { ...axisText(), customValues: ticks, formatter: (tick) => logLabel(tick) },
        ...noAxis,
        axisTick: { show: false, customValues: ticks },
        splitLine: grid()
      },
      series: [
        {
          type: "line",
          silent: true,
          symbol: "none",
          data: best.map((p) => [p.x, p.y]),
          lineStyle: { color: color("--strong-line"), width: 1.5 },
          z: 2,
          markLine:
            base === null || far
              ? undefined
              : {
                  silent: true,
                  symbol: "none",
                  animation: false,
                  data: [{ xAxis: base }],
                  lineStyle: { color: color("--base"), type: [3, 3], width: 1 },
                  label: {
                    formatter: () => shortened(models[0].name, 12, 110),
                    position: "insideEndTop",
                    rotate: 0,
                    align: base > (start + end) / 2 ? "right" : "left",
                    padding: [0, 6],
                    color: color("--muted"),
                    fontSize: 12
                  }
                }
        },
        {
          type: "scatter",
          silent: true,
          symbolSize: 0,
          itemStyle: { opacity: 1 },
          data: far ? [[far > 0 ? end : start, high]] : [],
          label: {
            show: true,
            position: [0, -18],
            align: far > 0 ? "right" : "left",
            formatter: () => {
              const name = `${shortened(models[0].name, 12, 110)}: ${significant(base)} ${settings.unit}`;
              return far > 0 ? `${name} →` : `← ${name}`;
            },
            color: color("--muted"),
            fontSize: 12
          }
        },
        {
          type: "custom",
          silent: true,
          data: points.filter((p) => p.low !== undefined).map((p) => [p.low, p.y, p.high, p.index]),
          encode: { x: [0, 2], y: 1 },
          z: 2,
          renderItem: (_, api) => {
            const [x1, y] = api.coord([api.value(0), api.value(1)]);
            const [x2] = api.coord([api.value(2), api.value(1)]);
            return {
              type: "line",
              shape: { x1, y1: y, x2, y2: y },
              style: { stroke: seriesColor(api.value(3)), lineWidth: 1.5, opacity: 0.6 }
            };
          }
        },
        {
          id: "leaders",
          type: "custom",
          silent: true,
          data: [],
          z: 2,
          renderItem: (_, api) => {
            const [x, y] = api.coord([api.value(0), api.value(1)]);
            return {
              type: "line",
              shape: { x1: x, y1: y, x2: x + api.value(2), y2: y + api.value(3) },
              style: { stroke: color("--muted"), lineWidth: 0.8 }
            };
          }
        },
        {
          id: "points",
          type: "scatter",
          symbolSize: 10,
          z: 3,
          data: points.map((p) => ({
            value: [p.x, p.y],
            point: p,
            symbol: p.index > 10 ? "diamond" : "circle",
            itemStyle: {
              color: best.includes(p) ? seriesColor(p.index) : color("--page"),
              borderColor: seriesColor(p.index),
              borderWidth: 2,
              opacity: 1
            }
          }))
        }
      ]
    });
    const after = (instance) => {
      const bounds = [box.left - 8, box.top - 4, instance.getWidth() - 2, instance.getHeight() - box.bottom];
      const labels = placeLabels(instance, points, bounds);
      const series = instance.getOption().series.find((s) => s.id === "points");
      const leaders = points.flatMap((p, i) => (labels[i].leader ? [[p.x, p.y, ...labels[i].leader]] : []));
      instance.setOption({
        series: [
          { id: "points", data: series.data.map((item, i) => ({ ...item, label: labels[i] })) },
          { id: "leaders", data: leaders }
        ]
      });
    };
    chart(id, settings.label(best), options, after);
  }

  const names = (points) => points.map((p) => p.name).join(", ");
  const sized = scored.filter((v) => v.bytes).map((v) => ({ ...v }));
  const fast = scored.filter((v) => v.speed).map((v) => ({ ...v, x: v.speed[0], low: v.speed[1], high: v.speed[2] }));
  if (sized.length > 1) {
    const large = Math.max(...models.map((m) => m.bytes || 0)) >= 999.5e6;
    const unit = large ? 1e9 : 1e6;
    sized.forEach((p) => (p.x = p.bytes / unit));
    tradeoff("size-chart", sized, models[0].bytes ? models[0].bytes / unit : null, {
      axis: large ? "size, GB" : "size, MB",
      unit: large ? "GB" : "MB",
      higherIsBetter: false,
      text: (p) => `${significant(p.x)} ${large ? "GB" : "MB"}`,
      label: (best) => `Mean KL divergence against file size. Smallest or most accurate: ${names(best)}. The summary table has the values.`
    });
  }
  if (fast.length > 1) {
    tradeoff("speed-chart", fast, models[0].speed ? models[0].speed[0] : null, {
      axis: `${data.speedTest.startsWith("tg") ? "generation" : "prompt processing"} (${data.speedTest}), tokens per second`,
      unit: "t/s",
      higherIsBetter: true,
      text: (p) => `${significant(p.x)} tokens per second (${significant(p.low)} – ${significant(p.high)})`,
      label: (best) => `Mean KL divergence against speed. Fastest or most accurate: ${names(best)}. The summary table has the values.`
    });
  }
  // A single variant is no choice.
  if (sized.length < 2 && fast.length < 2) {
    remove("tradeoffs");
  } else if (sized.length < 2 || fast.length < 2) {
    remove(sized.length < 2 ? "size-figure" : "speed-figure");
  }

  // ---- Latency

  function latencyPanel(test, t) {
    const shown = models
      .map((model, index) => ({ name: model.name, index, result: model.latency.find((result) => result[0] === t) }))
      .filter((entry) => entry.result && entry.result[1] !== null);
    const id = `latency-${t}`;
    const node = element("div", { class: "chart", id });
    node.style.height = `${shown.length * 24 + 38}px`;
    byId("latency-panels").append(
      element(
        "div",
        null,
        element("h3", null, test.what, " ", element("span", null, `${test.threads}, ${test.unit}, ${test.higherIsBetter ? "more" : "less"} is better`)),
        node
      )
    );
    const medians = shown.map((entry) => entry.result[1]);
    const decimals = Math.max(0, Math.min(3, 2 - Math.floor(Math.log10(Math.min(...medians)))));
    const note = Math.max(0, ...shown.map((entry) => textWidth(entry.result[4], 12)));
    const value = Math.max(...medians.map((m) => textWidth(m.toFixed(decimals), 12)));
    const categories = shown.map((_, i) => i);
    chart(
      id,
      `${test.what}, ${test.threads}: ${shown.map((e) => `${e.name} ${e.result[1].toFixed(decimals)} ${test.unit}`).join(", ")}`,
      () => {
        const left = Math.min(Math.max(...shown.map((e) => textWidth(e.name, 12))), 130) + 12;
        return {
          grid: { left, right: value + note + (note > 0 ? 26 : 14), top: 8, bottom: 28 },
          tooltip: {
            ...tooltip(),
            formatter: ({ dataIndex }) => {
              const { name, result } = shown[dataIndex];
              return tip(name, [
                `${significant(result[1])} ${test.unit}, quartiles ${significant(result[2])} – ${significant(result[3])}`,
                ...(result[4] ? [`to the base: ${result[4]}`] : [])
              ]);
            }
          },
          xAxis: {
            type: "value",
            min: 0,
            splitNumber: 4,
            axisLabel: { ...axisText(), hideOverlap: true },
            ...noAxis,
            splitLine: grid()
          },
          yAxis: [
            {
              type: "category",
              inverse: true,
              data: categories,
              axisLabel: {
                color: color("--text"),
                fontSize: 12,
                interval: 0,
                formatter: (i) => shortened(shown[i].name, 12, 130)
              },
              axisLine: { show: true, lineStyle: { color: color("--strong-line") } },
              axisTick: { show: false }
            },
            {
              type: "category",
              inverse: true,
              position: "right",
              data: categories,
              axisLabel: {
                interval: 0,
                margin: 10,
                formatter: (i) => `{value|${shown[i].result[1].toFixed(decimals)}}{note|${shown[i].result[4]}}`,
                rich: {
                  value: { width: value, align: "right", color: color("--text"), fontSize: 12 },
                  note: { width: note + (note > 0 ? 12 : 0), align: "right", color: color("--muted"), fontSize: 12 }
                }
              },
              ...noAxis
            }
          ],
          series: [
            {
              type: "bar",
              barWidth: 13,
              data: shown.map((entry) => ({
                value: entry.result[1],
                itemStyle: { color: seriesColor(entry.index), borderRadius: [0, 2, 2, 0] }
              }))
            },
            {
              type: "custom",
              silent: true,
              z: 4,
              data: shown.map((entry, i) => [entry.result[2], i, entry.result[3]]),
              encode: { x: [0, 2], y: 1 },
              renderItem: (_, api) => {
                const [x1, y] = api.coord([api.value(0), api.value(1)]);
                const [x2] = api.coord([api.value(2), api.value(1)]);
                const lines = [
                  { x1, y1: y, x2, y2: y },
                  { x1, y1: y - 4, x2: x1, y2: y + 4 },
                  { x1: x2, y1: y - 4, x2, y2: y + 4 }
                ];
                return {
                  type: "group",
                  children: lines.map((shape) => ({ type: "line", shape, style: { stroke: color("--text"), lineWidth: 1.2 } }))
                };
              }
            }
          ]
        };
      }
    );
  }

  if (data.tests.length > 0) {
    if (variants.length === 0) {
      byId("latency-note").textContent = "Medians with quartiles.";
    }
    data.tests.forEach(latencyPanel);
  } else {
    remove("latency");
  }

  // ---- Distribution of the KL divergence

  /** The histogram as a line: [decimal logarithm, share of the tokens per decade], with bins joined so that there are at most 90. */
  function density({ first, step, counts }) {
    const total = counts.reduce((sum, n) => sum + n, 0);
    const join = Math.max(1, Math.ceil(counts.length / 90));
    const points = [];
    for (let i = 0; i < counts.length; i += join) {
      const bin = counts.slice(i, i + join);
      const share = bin.reduce((sum, n) => sum + n, 0) / total / (step * bin.length);
      points.push([first + (i + bin.length / 2) * step, share]);
    }
    return points;
  }

  const spread = scored.filter((v) => v.histogram && v.histogram.counts.length > 0);
  if (spread.length > 0) {
    const lines = spread.map((v) => density(v.histogram));
    // The peak of the second-highest bin of each, so that a heap of equal values does not flatten the rest.
    const peak = Math.max(...lines.map((line) => line.map((p) => p[1]).sort((a, b) => b - a)[Math.min(1, line.length - 1)]));
    const rowHeight = 46;
    byId("divergence-chart").style.height = `${spread.length * rowHeight + 66}px`;
    // Of the rare tokens at the lower end there is nothing to learn.
    const visible = lines.flatMap((line) => line.filter((p) => p[1] > 0.004 * peak).map((p) => p[0]));
    const low = Math.min(...visible) - 0.1;
    const high = Math.max(...lines.map((line) => line[line.length - 1][0])) + 0.1;
    const ticks = logTicks(Math.ceil(low), high).filter((tick) => Number.isInteger(tick));
    chart(
      "divergence-chart",
      `Distribution of the KL divergence per token. ${spread
        .map((v) => `${v.name}: median ${significant(v.median || 0)}, 99 % ${significant(v.p99 || 0)}`)
        .join("; ")}.`,
      () => {
        const left = Math.min(Math.max(...spread.map((v) => textWidth(v.name, 12))), 130) + 14;
        const base = (row) => spread.length - 1 - row;
        return {
          grid: { left, right: 14, top: 22, bottom: 44 },
          tooltip: {
            ...tooltip(),
            trigger: "item",
            formatter: ({ data: item }) =>
              item && item.row !== undefined
                ? tip(spread[item.row].name, [
                    `median ${significant(spread[item.row].median || 0)}`,
                    `99 % of the tokens below ${significant(spread[item.row].p99 || 0)}`
                  ])
                : ""
          },
          xAxis: {
            type: "value",
            min: low,
            max: high,
            name: "KL divergence of a token, nats",
            nameLocation: "middle",
            nameGap: 28,
            nameTextStyle: axisText(),
            axisLabel: { ...axisText(), customValues: ticks, formatter: (tick) => logLabel(tick), hideOverlap: true },
            ...noAxis,
            axisTick: { show: false, customValues: ticks },
            splitLine: grid()
          },
          yAxis: {
            type: "value",
            min: 0,
            max: spread.length + 0.15,
            axisLabel: {
              color: color("--text"),
              fontSize: 12,
              margin: 10,
              customValues: spread.map((_, row) => base(row)),
              formatter: (at) => shortened(spread[spread.length - 1 - at].name, 12, 130)
            },
            ...noAxis,
            splitLine: { show: false }
          },
          series: [
            ...lines.map((line, row) => ({
              type: "line",
              silent: true,
              symbol: "none",
              clip: true,
              z: 2 + row / 100,
              data: line.map(([x, y]) => [x, base(row) + Math.min((1.05 * y) / peak, 1.3)]),
              lineStyle: { color: seriesColor(spread[row].index), width: 1.6 },
              areaStyle: { color: seriesColor(spread[row].index), opacity: 0.22, origin: base(row) }
            })),
            {
              type: "scatter",
              z: 5,
              data: spread.flatMap((v, row) =>
                [
                  [v.median, "circle"],
                  [v.p99, "diamond"]
                ]
                  .filter(([x]) => x > 0 && Math.log10(x) >= low)
                  .map(([x, symbol]) => ({
                    value: [Math.log10(x), base(row)],
                    row,
                    symbol,
                    symbolSize: symbol === "circle" ? 9 : 11,
                    itemStyle: { color: seriesColor(v.index), borderColor: color("--page"), borderWidth: 1.5, opacity: 1 }
                  }))
              )
            }
          ]
        };
      }
    );
  } else {
    remove("divergence");
  }

  // ---- Error of each tensor

  const compared = variants.map((v, i) => ({ ...v, index: i + 1 })).filter((v) => v.tensors);
  const steps = [0, 1, 2, 3, 4, 5];

  if (compared.length > 0) {
    tensorSection();
  } else {
    remove("tensors");
  }

  function tensorSection() {
    // Kinds that no variant changes say nothing.
    const changed = new Set();
    compared.forEach(({ tensors }) => tensors.error.forEach((error, i) => error !== 0 && changed.add(tensors.kind[i])));
    const inLayers = new Set();
    let layers = 0;
    compared.forEach(({ tensors }) =>
      tensors.layer.forEach((layer, i) => {
        if (layer >= 0) {
          inLayers.add(tensors.kind[i]);
          layers = Math.max(layers, layer + 1);
        }
      })
    );
    const rows = data.kinds.map((_, k) => k).filter((k) => changed.has(k) && inLayers.has(k));
    const outside = data.kinds.map((_, k) => k).filter((k) => changed.has(k) && !inLayers.has(k));
    const unchanged = data.kinds.filter((_, k) => !changed.has(k));
    const errors = compared.flatMap(({ tensors }) => tensors.error).filter((error) => error > 0);
    byId("tensors-note").textContent =
      `Relative error against the base${data.weighted ? ", weighted by the importance of the columns" : ""}: root of the squared ` +
      `differences over the squared values, in percent. The colours mean the same for all variants.` +
      (unchanged.length > 0 ? ` Left out, for they equal the base's in every variant: ${unchanged.join(", ")}.` : "");
    if (errors.length === 0) {
      byId("tensors-note").textContent = "All tensors equal the base's.";
      remove("tensor-tabs", "tensor-panel");
      return;
    }
    const low = Math.log10(Math.min(...errors));
    const high = Math.max(Math.log10(Math.max(...errors)), low + 0.01);
    const height = Math.max(rows.length, outside.length) * 26 + 48;
    const node = byId("tensors-chart");
    node.style.height = `${height}px`;
    const side = outside.length > 0 ? 168 : 0;
    const left = Math.max(40, ...rows.map((k) => Math.min(textWidth(data.kinds[k], 12), 130) + 12));
    node.style.minWidth = `${left + layers * 11 + side + 24}px`;
    byId("tensor-scale").append(
      element("span", null, percent(10 ** low)),
      element("span", { class: "ramp" }),
      element("span", null, percent(10 ** high)),
      element("span", { class: "equal" }, element("span", { class: "same" }), "equal to the base's")
    );
    let selected = 0;

    /** Colour of an error, and a colour for text on it. */
    function shade(error) {
      if (error === 0) {
        return [color("--page"), color("--muted")];
      }
      const at = error === null ? 5 : (5 * (Math.log10(error) - low)) / (high - low);
      const ramp = steps.map((i) => rgb(color(`--heat-${i}`)));
      const i = Math.min(4, Math.max(0, Math.floor(at)));
      const mixed = ramp[i].map((c, j) => Math.round(c + (ramp[i + 1][j] - c) * (at - i)));
      const light = luminance(mixed);
      // Black or white, whichever has the higher contrast.
      return [`rgb(${mixed.join(",")})`, (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff"];
    }

    function cells(tensors, wanted) {
      return tensors.kind
        .map((kind, i) => [kind, i])
        .filter(([kind]) => wanted.includes(kind))
        .map(([kind, i]) => ({
          value: [Math.max(0, tensors.layer[i]), wanted.indexOf(kind)],
          tensor: [data.kinds[kind], tensors.layer[i], data.types[tensors.type[i]], tensors.error[i]]
        }));
    }

    function heat(axis, items, text) {
      return {
        type: "custom",
        xAxisIndex: axis,
        yAxisIndex: axis,
        data: items,
        renderItem: (params, api) => {
          const [x, y] = api.coord([api.value(0), api.value(1)]);
          const [width, height] = api.size([1, 1]);
          const { tensor } = items[params.dataIndexInside];
          const [fill, ink] = shade(tensor[3]);
          const gap = width > 8 ? 1 : 0.5;
          const rect = { x: x - width / 2 + gap / 2, y: y - height / 2 + 0.5, width: width - gap, height: height - 1 };
          return {
            type: "rect",
            shape: { ...rect, r: 2 },
            style: { fill, stroke: tensor[3] === 0 ? color("--line") : "none", lineWidth: 1 },
            textContent: { type: "text", style: { text: text(tensor, width), fill: ink, fontSize: 11, fontFamily: font() } },
            textConfig: { position: "inside" }
          };
        }
      };
    }

    const shown = (error) => (error === null ? "∞" : error === 0 ? "0" : percent(error));

    function options() {
      const { tensors } = compared[selected];
      const hidden = { type: "category", show: false };
      return {
        grid: [
          { left, right: side + 8, top: 8, bottom: 40 },
          { width: Math.max(0, side - 24), right: 8, top: 8, height: outside.length * ((height - 48) / Math.max(1, rows.length, outside.length)) }
        ],
        tooltip: {
          ...tooltip(),
          formatter: ({ data: item }) => {
            const [kind, layer, type, error] = item.tensor;
            return tip(layer < 0 ? kind : `${kind}, layer ${layer}`, [
              `${type} in ${compared[selected].name}`,
              error === 0 ? "equal to the base's" : `relative error ${shown(error)}`
            ]);
          }
        },
        xAxis: [
          {
            type: "category",
            data: Array.from({ length: Math.max(1, layers) }, (_, i) => i),
            name: rows.length > 0 ? "layer" : "",
            nameLocation: "middle",
            nameGap: 24,
            nameTextStyle: axisText(),
            axisLabel: { ...axisText(), hideOverlap: true, show: rows.length > 0 },
            ...noAxis
          },
          { ...hidden, gridIndex: 1, data: [0] }
        ],
        yAxis: [
          {
            type: "category",
            inverse: true,
            data: rows.map((k) => shortened(data.kinds[k], 12, 130)),
            axisLabel: { color: color("--text"), fontSize: 12, interval: 0, margin: 8 },
            ...noAxis
          },
          { ...hidden, gridIndex: 1, inverse: true, data: outside }
        ],
        series: [
          heat(0, cells(tensors, rows), (tensor, width) => (width >= 30 ? shown(tensor[3]).replace(" %", "") : "")),
          heat(1, cells(tensors, outside), (tensor, width) => shortened(`${tensor[0]}  ${shown(tensor[3])}`, 11, width - 8))
        ]
      };
    }

    const entry = chart("tensors-chart", "", options);
    const tabs = compared.map((variant, i) => {
      const tab = element("button", { type: "button", role: "tab", id: `tensor-tab-${i}`, "aria-controls": "tensor-panel" }, variant.name);
      tab.addEventListener("click", () => select(i));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) {
          event.preventDefault();
          select((i + step + tabs.length) % tabs.length).focus();
        }
      });
      return tab;
    });
    function select(i) {
      selected = i;
      tabs.forEach((tab, j) => {
        tab.setAttribute("aria-selected", String(i === j));
        tab.tabIndex = i === j ? 0 : -1;
      });
      const { tensors, name } = compared[i];
      const worst = tensors.error.reduce((w, error, j) => (error === null || error > tensors.error[w] ? j : w), 0);
      node.setAttribute(
        "aria-label",
        `Relative error of the tensors of ${name} by layer and kind; the largest is ${shown(tensors.error[worst])} in ` +
          `${data.kinds[tensors.kind[worst]]}${tensors.layer[worst] < 0 ? "" : ` of layer ${tensors.layer[worst]}`}.`
      );
      entry.draw();
      return tabs[i];
    }
    // The smallest variant loses most.
    const smallest = compared.reduce((s, v, i) => ((v.bytes || Infinity) < (compared[s].bytes || Infinity) ? i : s), 0);
    byId("tensor-tabs").append(...tabs);
    if (tabs.length === 1) {
      byId("tensor-tabs").hidden = true;
    }
    select(smallest);
  }

  function rgb(hex) {
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }

  function luminance(channels) {
    const [r, g, b] = channels.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  // ---------------------------------------------------------------- Models

  function block(title, ...content) {
    return element("div", { class: "block" }, element("h3", null, title), ...content);
  }

  function factsTable(rows, head) {
    const line = (cells, tag) => element("tr", null, ...cells.map((text) => element(tag, null, text)));
    const node = element("table", { class: "facts" });
    if (head) {
      node.append(element("thead", null, line(head, "th")));
    }
    node.append(element("tbody", null, ...rows.map((row) => line(row, "td"))));
    return element("div", { class: "scroll" }, node);
  }

  function list(rows) {
    const node = element("dl");
    definitions(node, rows);
    return node;
  }

  function card(model, index) {
    const { brief, facts, types, history, accuracy, latency, failure } = model.card;
    const first = element("div", null, block("File", list(facts)));
    if (types && types.length > 0) {
      const counts = types.map(([type, count]) => element("span", null, type, " ", element("span", null, `× ${count}`)));
      first.append(block("Tensors by type", element("div", { class: "types" }, ...counts)));
    }
    if (history && history.length > 0) {
      first.append(block("How it was made", list(history)));
    }
    const second = element("div");
    if (accuracy.length > 0) {
      second.append(block("Accuracy", factsTable(accuracy)));
    }
    if (latency.length > 0) {
      const columns = latency.some((row) => row[3]) ? 5 : 3;
      const head = ["", "median", "quartiles", "to base", "95 % interval"].slice(0, columns);
      second.append(block("Latency", factsTable(latency.map((row) => row.slice(0, columns)), head)));
    }
    const columns = element("div", { class: "columns" });
    if (failure) {
      const problem = element("div", { class: "problem" }, element("p", null, `Failed while ${failure.phase}: ${failure.message}`));
      if (failure.log.length > 0) {
        problem.append(
          element("details", { open: true }, element("summary", null, "Last lines of llama.cpp's log"), element("pre", null, failure.log.join("\n")))
        );
      }
      columns.append(problem);
    }
    columns.append(first, ...[second].filter((part) => part.hasChildNodes()));
    const summary = element("summary", null, dot(index), element("bdi", { class: "name" }, model.name));
    if (index === 0 && variants.length > 0) {
      summary.append(element("span", { class: "tag" }, "base"));
    }
    summary.append(element("span", { class: "brief" }, brief));
    return element("details", { class: "card", open: models.length <= 2 || Boolean(failure) }, summary, columns);
  }

  byId("cards").append(...models.map(card));
  if (variants.length === 0) {
    byId("models-title").textContent = "Model";
  }

  // ---------------------------------------------------------------- Run

  if (data.command) {
    byId("command").textContent = data.command;
  } else {
    remove("command-block");
  }
  definitions(byId("environment"), data.environment);
  if (data.settings.length > 0) {
    definitions(byId("settings"), data.settings);
  } else {
    remove("settings-block");
  }
  const has = (id) => byId(id) !== null;
  definitions(byId("definitions"), [
    ...data.columns.slice(1).map((column) => [column.title, column.meaning]),
    ...(has("divergence")
      ? [
          ["Δp", "Change of the probability of the text's next token, model minus base. Its mean shows a loss, its root mean square (RMS) also changes that cancel out."],
          ["Scored tokens", "The text is cut into windows; of each, the tokens of the second half are scored, so that all have context."]
        ]
      : []),
    ...(has("tradeoffs") ? [["Line in the charts", "The Pareto front: the variants that no other beats in both respects. The points of the others are hollow."]] : []),
    ...(has("latency") ? [["No difference", "The 95 % confidence interval of the ratio contains 1. Models take turns, so that a machine that changes its speed hits all alike."]] : [])
  ]);
})();
