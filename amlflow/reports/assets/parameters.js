// The parameters: what differs between the ticked runs, how runs pass through them, and what they matter for the metric.

const MOST_AXES = 10;
const MOST_LABELS = 8;
// Of so many runs the lines are drawn, and of so many the points as well: each is an element of the page.
const MOST_LINES = 1000;
const MOST_DOTTED = 200;
const MOST_BARS = 20;
const MOST_PARAM_ROWS = 500;
const MOST_PARAM_RUNS = 12;
const SHADES = 16;
const NOT_SET = -0.12;
// From dark to light of the viridis scale, whose steps are alike to the eye.
const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function drawParams() {
  const runs = page.shown.filter((run) => page.drawn.has(run)).slice(0, MOST_PARAM_RUNS);
  const everything = byId('all-params').checked;
  const wanted = page.data.params.filter((param) => everything || new Set(runs.map((run) => valueOf(param, run))).size > 1);
  const head = element('tr', {}, element('th', {scope: 'col', class: 'held'}, 'parameter'), ...runs.map((run) => element('th', {scope: 'col'}, ...runName(run, 28))));
  const rows = wanted.slice(0, MOST_PARAM_ROWS).map((param) => {
    const values = runs.map((run) => valueOf(param, run));
    const row = element('tr', {class: everything && new Set(values).size > 1 ? 'differs' : ''}, element('th', {scope: 'row', class: 'held', title: param.key}, shortened(param.key)));
    row.append(...values.map((value) => element('td', {class: 'long'}, value === null || value === undefined ? element('span', {title: 'not set'}, '–') : unfolding(value))));
    return row;
  });
  replace(byId('param-table'), element('thead', {}, head), element('tbody', {}, ...rows));
  const said = [];
  if (!rows.length) said.push(page.data.params.length ? 'These runs have the same parameters.' : 'These runs have no parameters.');
  if (wanted.length > rows.length) said.push(`${wanted.length - rows.length} more parameters are left out.`);
  const ticked = page.shown.filter((run) => page.drawn.has(run)).length;
  if (ticked > runs.length) said.push(`The first ${runs.length} of ${ticked} ticked runs; the table of runs can show any parameter of all.`);
  byId('param-note').textContent = said.join(' ');
}

// Where a value stands on its axis, 0 to 1: numbers by size (by logarithm when they span a hundredfold), texts in their order.
function axisOf(label, values, isMetric) {
  const given = [...new Set(values.filter((value) => value !== null && value !== undefined && !Number.isNaN(value)))];
  const numbers = given.map(Number);
  if (given.length && numbers.every(Number.isFinite) && given.every((value) => value !== '')) {
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const logarithmic = low > 0 && high / low >= 100 && !isMetric;
    const scale = logarithmic ? Math.log : (value) => value;
    const span = scale(high) - scale(low);
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
      const exact = logarithmic ? Math.exp(scale(low) + share * span) : low + share * span;
      const value = numbers.every(Number.isInteger) && !logarithmic ? Math.round(exact) : Number(exact.toPrecision(3));
      return [span ? (scale(value) - scale(low)) / span : 0.5, numberText(value)];
    });
    return {label, ticks: span ? [...new Map(ticks.map((tick) => [tick[1], tick])).values()] : ticks.slice(0, 1), place: (value) => (value === null || value === undefined || !Number.isFinite(Number(value)) ? NOT_SET : span ? (scale(Number(value)) - scale(low)) / span : 0.5)};
  }
  const order = given.map(String).sort((one, other) => one.localeCompare(other, undefined, {numeric: true}));
  const at = new Map(order.map((value, index) => [value, order.length > 1 ? index / (order.length - 1) : 0.5]));
  const every = Math.ceil(order.length / MOST_LABELS);
  return {label, ticks: order.filter((_, index) => index % every === 0).map((value) => [at.get(value), shortened(value, 14)]), place: (value) => at.get(String(value)) ?? NOT_SET};
}

// Texts that hardly any two runs share, and params that differ in being set only, part no runs from others.
function isTelling(index) {
  const given = page.data.params[index].values.filter((value) => value !== null);
  const distinct = new Set(given).size;
  return distinct > 1 && (distinct <= given.length / 2 || given.every((value) => value.trim() !== '' && Number.isFinite(Number(value))));
}

function parallelAxes() {
  const runs = page.data.runs.map((_, run) => run);
  const ranked = page.data.importance.byMetric[page.metric] || [];
  const first = ranked.map((row) => row[0]);
  const telling = [...new Set([...first, ...differing().filter(isTelling)])];
  const params = (telling.length ? telling : differing()).slice(0, MOST_AXES);
  const axes = params.map((index) => {
    const param = page.data.params[index];
    return {id: `params.${param.key}`, of: (run) => valueOf(param, run), ...axisOf(param.key, runs.map((run) => valueOf(param, run)), false)};
  });
  const metric = page.data.metrics[page.metric];
  const values = runs.map((run) => metricValue(page.metric, run));
  axes.push({id: `metrics.${metric.key}`, of: (run) => metricValue(page.metric, run), ...axisOf(metric.key, values.filter((value) => Number.isFinite(value)), true)});
  return axes;
}

// Without the end that the background swallows.
function shade(share) {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const place = Math.min(SCALE.length - 1.001, (dark ? 0.25 + 0.75 * share : 0.9 * share) * (SCALE.length - 1));
  const [low, high] = [SCALE[Math.floor(place)], SCALE[Math.floor(place) + 1]];
  return `rgb(${low.map((part, index) => Math.round(part + (high[index] - part) * (place % 1))).join(',')})`;
}

// One trace for each shade, its lines parted by gaps: two hundred runs cost sixteen traces.
function parallelTraces(axes) {
  const metric = axes[axes.length - 1];
  const bundles = new Map();
  const drawn = page.data.runs.map((_, run) => run).filter(fitsFilter);
  for (const run of drawn.slice(0, MOST_LINES)) {
    if (axes.every((axis) => axis.place(axis.of(run)) === NOT_SET)) continue;
    const value = metric.place(metric.of(run));
    const bin = !inBrushes(run) ? -2 : value === NOT_SET ? -1 : Math.min(SHADES - 1, Math.floor(value * SHADES));
    if (!bundles.has(bin)) bundles.set(bin, {x: [], y: [], text: []});
    const bundle = bundles.get(bin);
    axes.forEach((axis, index) => {
      bundle.x.push(index);
      bundle.y.push(axis.place(axis.of(run)));
      const shown = axis.of(run);
      bundle.text.push(`${literal(shortened(page.labels[run], 40))}<br>${literal(shortened(axis.label, 40))}: ${literal(shown === null || shown === undefined ? 'not set' : typeof shown === 'number' ? numberText(shown) : shortened(shown, 60))}`);
    });
    bundle.x.push(null);
    bundle.y.push(null);
    bundle.text.push('');
  }
  const look = theme();
  return [...bundles].sort((one, other) => one[0] - other[0]).map(([bin, {x, y, text}]) => {
    const colour = bin < 0 ? look.quiet : shade((bin + 0.5) / SHADES);
    return {type: 'scatter', mode: drawn.length > MOST_DOTTED ? 'lines' : 'lines+markers', x, y, text, hovertemplate: '%{text}<extra></extra>', showlegend: false, opacity: bin === -2 ? 0.15 : 0.75, line: {color: colour, width: 1.5}, marker: {color: colour, size: 4}};
  });
}

function drawParallel() {
  const chart = byId('parallel-chart');
  if (!differing().length || page.data.runs.length < 2) {
    blank(chart, 'There is no parameter that differs.');
    return;
  }
  const axes = parallelAxes();
  for (const key of page.brushes.keys()) if (!axes.some((axis) => axis.id === key)) page.brushes.delete(key);
  const look = theme();
  const labels = axes.flatMap((axis, index) => axis.ticks.map(([y, text]) => ({
    x: index, y, text: literal(text), showarrow: false, xanchor: index === axes.length - 1 ? 'right' : 'left', xshift: index === axes.length - 1 ? -5 : 5, font: {size: 11, color: look.text}, bgcolor: look.back, opacity: 0.85,
  })));
  const bars = axes.map((_, index) => ({type: 'line', x0: index, x1: index, y0: 0, y1: 1, line: {color: look.quiet, width: 1}}));
  for (const [index, axis] of axes.entries()) {
    const brush = page.brushes.get(axis.id);
    if (brush) bars.push({type: 'rect', x0: index - 0.06, x1: index + 0.06, y0: brush.low, y1: brush.high, line: {color: look.strong, width: 1.5}, fillcolor: look.strong, opacity: 0.3});
  }
  const wide = axes.length * 110;
  const scrolls = chart.parentElement.clientWidth < wide;
  chart.style.width = scrolls ? `${wide}px` : '';
  chart.parentElement.style.overflowX = scrolls ? 'auto' : '';
  const traces = parallelTraces(axes);
  draw(ready(chart), traces, {
    height: 440, hovermode: 'closest', dragmode: 'select', annotations: labels, shapes: bars, selections: [], margin: {l: axes.length > 6 ? 80 : 50, r: 50, t: 12, b: axes.length > 6 ? 90 : 36},
    xaxis: {tickvals: axes.map((_, index) => index), ticktext: axes.map((axis) => literal(shortened(axis.label, 22))), range: [-0.15, axes.length - 0.85], showgrid: false, zeroline: false, showline: false, fixedrange: true, ticklabeloverflow: 'allow', tickangle: axes.length > 6 ? -25 : 0},
    yaxis: {visible: false, range: [traces.some((one) => one.y.includes(NOT_SET)) ? NOT_SET - 0.06 : -0.06, 1.06], fixedrange: true},
  }, {displayModeBar: false, responsive: !scrolls});
  listenToBrushes(chart, axes);
  byId('clear-brushes').hidden = page.brushes.size === 0;
  const left = differing().length - (axes.length - 1);
  chart.setAttribute('aria-label', `${axes.map((axis) => axis.label).join(', ')} of each run`);
  const said = [`Coloured by ${page.data.metrics[page.metric].key}: dark is low, light is high. A run without a value passes below the axis.`];
  const fitting = page.data.runs.filter((_, run) => fitsFilter(run)).length;
  if (fitting > MOST_LINES) said.push(`The first ${MOST_LINES} of ${fitting} runs.`);
  if (left > 0) said.push(`${left} more parameters that differ have no axis: those that matter most come first, and those that no two runs share have none.`);
  byId('parallel-note').textContent = said.join(' ');
}

function listenToBrushes(chart, axes) {
  chart.removeAllListeners('plotly_selected');
  chart.on('plotly_selected', (event) => {
    if (!event || !event.range || !event.range.x) return;
    const [left, right] = [...event.range.x].sort((one, other) => one - other);
    const [low, high] = [...event.range.y].sort((one, other) => one - other);
    axes.forEach((axis, index) => {
      if (index < left || index > right) return;
      const brush = (run) => {
        const place = axis.place(axis.of(run));
        return place >= low && place <= high;
      };
      page.brushes.set(axis.id, Object.assign(brush, {low, high}));
    });
    arrange();
    changed();
  });
}

function drawImportance() {
  const chart = byId('importance-chart');
  const {byMetric, fewest, leftOut} = page.data.importance;
  const rows = (byMetric[page.metric] || []).slice(0, MOST_BARS);
  const measured = page.data.metrics[page.metric].values.filter((value) => Number.isFinite(asNumber(value))).length;
  if (!rows.length) {
    blank(chart, measured < fewest ? `${measured} run${measured === 1 ? ' has' : 's have'} this metric: importance needs ${fewest} or more.` : 'No parameter that differs has values that runs share.');
    byId('importance-note').textContent = '';
    return;
  }
  const upwards = [...rows].reverse();
  const names = upwards.map(([param]) => literal(shortened(page.data.params[param].key, 32)));
  const look = theme();
  draw(ready(chart), [{
    type: 'bar', orientation: 'h', x: upwards.map((row) => row[1]), y: upwards.map((_, index) => index), marker: {color: COLOURS[0]},
    text: upwards.map(([, share, trend]) => ` ${(share * 100).toFixed(0)} %${trend === null ? '' : `, ρ ${trend.toFixed(2).replace('-', '−')}`}`), textposition: 'outside', cliponaxis: false, textfont: {color: look.text},
    hovertext: upwards.map(([param, share, , runs, groups]) => `${literal(shortened(page.data.params[param].key, 60))}: ${(share * 100).toFixed(1)} %<br>${runs} runs in ${groups} groups`), hoverinfo: 'text',
  }], {
    height: 90 + 26 * rows.length, showlegend: false, margin: {l: 20, r: 90, t: 12, b: 44},
    xaxis: {range: [0, 1.02], tickformat: '.0%', title: {text: 'share of the spread of ranks'}, fixedrange: true},
    yaxis: {tickvals: upwards.map((_, index) => index), ticktext: names, fixedrange: true, showgrid: false},
  }, {displayModeBar: false});
  byId('importance-note').textContent = importanceNote(measured, page.data.importance.ranked[page.metric], leftOut);
}

function importanceNote(measured, ranked, leftOut) {
  const said = [`Kruskal-Wallis effect size η²H over all ${measured} runs with this metric: how much of the spread of its ranks goes with one parameter alone, corrected for the number of values. Parameters that vary together share what they explain. ρ is Spearman's rank correlation of a numeric parameter.`];
  if (measured < 20) said.push(`With ${measured} runs this is a hint at most.`);
  if (ranked > MOST_BARS) said.push(`The first ${MOST_BARS} of ${ranked} parameters.`);
  if (leftOut) said.push(`${leftOut} more parameters were not ranked.`);
  return said.join(' ');
}

function startParameters() {
  byId('all-params').addEventListener('change', drawParams);
  byId('clear-brushes').addEventListener('click', () => {
    page.brushes.clear();
    arrange();
    changed();
  });
  page.listeners.push(drawParams, drawParallel, drawImportance);
}
