// The chosen metric of the ticked runs, over steps or time.

const MARKED_POINTS = 30;

function historyTraces(axis, weight) {
  const traces = [];
  const runs = page.shown.filter((run) => page.drawn.has(run));
  let gaps = 0;
  let thinned = 0;
  const curves = runs.map((run) => [run, historyOf(run, page.historyMetric)]).filter(([, history]) => history).map(([run, history]) => [run, history, along(history, axis)]);
  const unit = axis === 'elapsed' ? unitOf(curves.map(([, , {x}]) => x[x.length - 1])) : {name: '', seconds: 1};
  for (const [run, history, {x: places, y}] of curves) {
    const x = unit.seconds === 1 ? places : places.map((place) => place / unit.seconds);
    gaps += y.filter((value) => !drawable(value)).length;
    thinned += history.values.length < history.logged ? 1 : 0;
    const finite = (values) => values.map((value) => (drawable(value) ? value : null));
    const name = literal(shortened(page.labels[run]));
    const line = {color: colourOf(run), dash: dashOf(run), width: 1.6};
    const mode = y.length <= MARKED_POINTS ? 'lines+markers' : 'lines';
    const base = {type: 'scatter', x, name, legendgroup: String(run), hovertemplate: '%{y:.6g} at %{x}', mode};
    if (weight > 0) {
      traces.push({...base, y: finite(y), line: {...line, width: 1}, opacity: 0.25, mode: 'lines', hoverinfo: 'skip', hovertemplate: null, showlegend: false});
      traces.push({...base, y: finite(smoothed(y, weight)), line: {...line, width: 2.2}});
    } else {
      traces.push({...base, y: finite(y), line});
    }
  }
  return {traces, runs, gaps, thinned, unit: unit.name, values: curves.flatMap(([, , {y}]) => y.filter(drawable))};
}

function unitOf(longest) {
  const most = Math.max(0, ...longest);
  return [{name: 'hours', seconds: 3600}, {name: 'minutes', seconds: 60}].find(({seconds}) => most > 3 * seconds) || {name: 'seconds', seconds: 1};
}

// The values within three times the range between the quartiles beyond them: Tukey's outer fences (Exploratory Data Analysis,
// 1977). null where nothing lies outside.
function quietRange(values, logarithmic) {
  const sorted = Float64Array.from(logarithmic ? values.filter((value) => value > 0).map(Math.log10) : values).sort();
  const last = sorted.length - 1;
  const [first, third] = [0.25, 0.75].map((share) => sorted[Math.round(share * last)]);
  const inside = sorted.filter((value) => value >= first - 3 * (third - first) && value <= third + 3 * (third - first));
  const [low, high] = [inside[0], inside[inside.length - 1]];
  return inside.length <= last && high > low ? [low - (high - low) * 0.05, high + (high - low) * 0.05] : null;
}

// Lets one run stand out of the others; null lets none.
function emphasize(run) {
  const chart = byId('history-chart');
  if (!chart.classList.contains('js-plotly-plot')) return;
  const traces = new Map(chart._fullData.map((trace) => [`trace${trace.uid}`, trace]));
  const known = chart._fullData.some((trace) => trace.legendgroup === String(run));
  for (const line of chart.querySelectorAll('.scatterlayer .trace')) {
    const trace = [...line.classList].map((name) => traces.get(name)).find(Boolean);
    if (trace) line.style.opacity = !known || trace.legendgroup === String(run) ? trace.opacity : 0.08;
  }
}

function drawHistories() {
  const axis = byId('axis').value;
  const weight = Number(byId('smoothing').value);
  byId('smoothing-value').textContent = weight ? weight.toFixed(2) : 'none';
  const chart = byId('history-chart');
  const {traces, runs, gaps, thinned, unit, values} = historyTraces(axis, weight);
  if (!traces.length) {
    blank(chart, runs.length ? 'None of the ticked runs has a history of this metric.' : 'No run is ticked in the table above.');
    byId('history-note').textContent = '';
    return;
  }
  const title = {step: 'step', elapsed: `${unit} since the first value`, wall: ''}[axis];
  const logarithmic = byId('log-axis').checked;
  const quiet = byId('quiet-range').checked ? quietRange(values, logarithmic) : null;
  const key = page.data.metrics[page.historyMetric].key;
  const narrow = chart.clientWidth < 640;
  const legend = narrow ? {orientation: 'h', yref: 'container', y: 0, yanchor: 'bottom'} : {x: 1.01, y: 1};
  draw(ready(chart), traces, {
    height: narrow ? 440 : 480, margin: {l: 56, r: 16, t: 36, b: 44}, hovermode: 'closest', showlegend: traces.length > 1, legend,
    uirevision: `${page.historyMetric} ${axis} ${logarithmic} ${quiet !== null}`,
    xaxis: {title: {text: title}, type: axis === 'wall' ? 'date' : 'linear'},
    yaxis: {title: {text: literal(shortened(key))}, type: logarithmic ? 'log' : 'linear', ...(quiet ? {range: quiet, autorange: false} : {autorange: true})},
  });
  chart.setAttribute('aria-label', `${key} of ${runs.length} runs by ${title || 'wall time'}`);
  chart.removeAllListeners('plotly_hover');
  chart.removeAllListeners('plotly_unhover');
  chart.on('plotly_hover', ({points}) => emphasize(Number(points[0].fullData.legendgroup)));
  chart.on('plotly_unhover', () => emphasize(null));
  const lost = logarithmic ? values.filter((value) => value <= 0).length : 0;
  byId('history-note').textContent = (hasCurve(page.historyMetric) ? '' : 'Each run has one value of it. ') + historyNote(runs.length, gaps, thinned, weight, lost);
}

function historyNote(runs, gaps, thinned, weight, lost) {
  const said = ['Drag to zoom, double-click to see all again.'];
  if (thinned) said.push(`${thinned} of these histories ${thinned === 1 ? 'is' : 'are'} longer than the page holds: of each stretch the lowest and the highest value are kept (at most ${page.data.pointsEach} points each).`);
  if (weight && thinned) said.push('The smoothing is of the points that are kept.');
  if (gaps) said.push(`${gaps} value${gaps === 1 ? ' is' : 's are'} NaN or infinite, or beyond 1e300: a gap.`);
  if (lost) said.push(`${lost} value${lost === 1 ? '' : 's'} of zero or below ${lost === 1 ? 'has' : 'have'} no place on a logarithmic axis.`);
  if (runs < page.shown.length) said.push(`${runs} of ${page.shown.length} runs are ticked.`);
  return said.join(' ');
}

const hasCurve = (metric) => series.curves.has(metric);

// The metric of the page, unless it was logged once a run and another has a curve.
function followMetric() {
  const first = page.data.metrics.findIndex((_, metric) => hasCurve(metric));
  page.historyMetric = hasCurve(page.metric) || first < 0 ? page.metric : first;
  byId('history-metric').value = String(page.historyMetric);
}

function startHistories() {
  const choice = byId('history-metric');
  replace(choice, ...metricOptions());
  choice.addEventListener('change', () => {
    page.historyMetric = Number(choice.value);
    drawHistories();
  });
  followMetric();
  for (const id of ['axis', 'smoothing', 'log-axis', 'quiet-range']) byId(id).addEventListener('input', drawHistories);
  page.listeners.push(drawHistories);
}
