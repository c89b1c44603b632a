// The chosen metric of the ticked runs, over steps or time.

const MARKED_POINTS = 30;

function historyTraces(axis, weight) {
  const traces = [];
  const runs = page.shown.filter((run) => page.drawn.has(run));
  let gaps = 0;
  let thinned = 0;
  for (const run of runs) {
    const history = historyOf(run, page.historyMetric);
    if (!history) continue;
    const {x, y} = along(history, axis);
    gaps += y.filter((value) => !Number.isFinite(value)).length;
    thinned += history.values.length < history.logged ? 1 : 0;
    const finite = (values) => values.map((value) => (Number.isFinite(value) ? value : null));
    const name = literal(shortened(page.data.runs[run].name));
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
  return {traces, runs, gaps, thinned};
}

function drawHistories() {
  const axis = byId('axis').value;
  const weight = Number(byId('smoothing').value);
  byId('smoothing-value').textContent = weight ? weight.toFixed(2) : 'none';
  const chart = byId('history-chart');
  const {traces, runs, gaps, thinned} = historyTraces(axis, weight);
  if (!traces.length) {
    blank(chart, runs.length ? 'None of the ticked runs has a history of this metric.' : 'No run is ticked in the table above.');
    byId('history-note').textContent = '';
    return;
  }
  const title = {step: 'step', elapsed: 'seconds since the first value', wall: ''}[axis];
  const logarithmic = byId('log-axis').checked;
  const narrow = chart.clientWidth < 640;
  const legend = narrow ? {orientation: 'h', y: -0.32} : {x: 1.01, y: 1};
  draw(ready(chart), traces, {
    height: narrow ? 440 : 480, margin: {l: 56, r: 16, t: 36, b: 44}, hovermode: 'closest', showlegend: traces.length > 1, legend,
    uirevision: `${page.historyMetric} ${axis} ${logarithmic}`,
    xaxis: {title: {text: title}, type: axis === 'wall' ? 'date' : 'linear'},
    yaxis: {title: {text: literal(shortened(page.data.metrics[page.historyMetric].key))}, type: logarithmic ? 'log' : 'linear'},
  });
  byId('history-note').textContent = (hasCurve(page.historyMetric) ? '' : 'Each run has one value of it. ') + historyNote(runs.length, gaps, thinned, weight);
}

function historyNote(runs, gaps, thinned, weight) {
  const said = ['Drag to zoom, double-click to see all again.'];
  if (thinned) said.push(`${thinned} of these histories ${thinned === 1 ? 'is' : 'are'} longer than the page holds: of each stretch the lowest and the highest value are kept (at most ${page.data.pointsEach} points each).`);
  if (weight && thinned) said.push('The smoothing is of the points that are kept.');
  if (gaps) said.push(`${gaps} value${gaps === 1 ? ' is' : 's are'} NaN or infinite: a gap.`);
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
  for (const id of ['axis', 'smoothing', 'log-axis']) byId(id).addEventListener('input', drawHistories);
  page.listeners.push(drawHistories);
}
