// Puts the page together, once its data is unpacked.

function drawHead() {
  const {title, made, runs, notes} = page.data;
  byId('title').textContent = title;
  const all = (key) => shortened([...new Set(runs.map((run) => run[key]))].join(', '), 120);
  byId('about').textContent = `${runs.length} run${runs.length === 1 ? '' : 's'} of ${all('experiment')} in workspace ${all('workspace')}; ${momentText(made)}${page.data.again ? '; some go on, and this page follows them' : ''}`;
  replace(document.querySelector('nav'), ...[...document.querySelectorAll('main section:not([hidden])')].map((section) => element('a', {href: `#${section.id}`}, section.querySelector('h2').textContent)));
  replace(byId('notes'), ...notes.map((note) => element('li', {}, note)));
}

function nameMetric() {
  const key = page.data.metrics.length ? page.data.metrics[page.metric].key : 'the metric';
  for (const place of document.querySelectorAll('.metric-name')) place.textContent = key;
}

function startMetric() {
  const choice = byId('metric');
  replace(choice, ...metricOptions());
  choice.addEventListener('change', () => {
    page.metric = Number(choice.value);
    nameMetric();
    followMetric();
    arrange();
    changed();
  });
}

function withoutMetrics() {
  for (const id of ['histories-part', 'parallel-part', 'importance-part']) byId(id).hidden = true;
  byId('metric').parentElement.hidden = true;
}

// A chart is as wide as the window until it is told of the paper.
const PAPER_WIDTH = 940;

function startPrinting() {
  const charts = () => document.querySelectorAll('.js-plotly-plot');
  addEventListener('beforeprint', () => charts().forEach((chart) => Plotly.relayout(chart, {width: PAPER_WIDTH})));
  addEventListener('afterprint', () => charts().forEach((chart) => Plotly.relayout(chart, {width: null, autosize: true})));
}

// While runs go on the file is written again and again: the page is read again too, and looks as it was left.
const LEFT_VALUES = ['filter', 'axis', 'smoothing'];
const LEFT_CHECKS = ['log-axis', 'quiet-range', 'all-params'];

function leave() {
  const {runs, metrics} = page.data;
  const values = LEFT_VALUES.map((id) => [id, byId(id).value]);
  const checks = LEFT_CHECKS.map((id) => [id, byId(id).checked]);
  const left = {
    values, checks, sort: table.sort, columns: [...table.chosen], place: scrollY, known: runs.map((run) => run.id), ticked: [...page.drawn].map((run) => runs[run].id),
    metric: metrics[page.metric]?.key, historyMetric: metrics[page.historyMetric]?.key,
  };
  sessionStorage.setItem(location.pathname, JSON.stringify(left));
}

function takeUp() {
  const left = JSON.parse(sessionStorage.getItem(location.pathname) || 'null');
  sessionStorage.removeItem(location.pathname);
  if (!left) return 0;
  const {runs, metrics} = page.data;
  for (const [id, value] of left.values) byId(id).value = value;
  for (const [id, checked] of left.checks) byId(id).checked = checked;
  const at = (key, otherwise) => Math.max(metrics.findIndex((metric) => metric.key === key), otherwise);
  page.metric = at(left.metric, 0);
  page.historyMetric = at(left.historyMetric, page.metric);
  byId('metric').value = String(page.metric);
  byId('history-metric').value = String(page.historyMetric);
  table.sort = left.sort;
  table.chosen = new Set([...left.columns, ...[...table.chosen].filter((id) => id.startsWith('metrics.'))]);
  runs.forEach((run, index) => {
    if (left.known.includes(run.id)) page.drawn[left.ticked.includes(run.id) ? 'add' : 'delete'](index);
  });
  nameMetric();
  arrange();
  drawColumnChoice();
  return left.place;
}

function readAgain() {
  const busy = document.hidden || document.activeElement?.matches('input[type=search]');
  if (busy) {
    setTimeout(readAgain, 1000);
    return;
  }
  leave();
  location.reload();
}

async function start() {
  page.data = JSON.parse(byId('data').textContent);
  page.labels = labelsOf(page.data.runs);
  const script = document.createElement('script');
  script.textContent = new TextDecoder().decode(await inflated('plotly'));
  document.head.append(script);
  await readSeries();
  document.querySelector('main').hidden = false;
  byId('controls').hidden = false;
  startMetric();
  nameMetric();
  startRuns();
  startVerdicts();
  if (page.data.metrics.length) {
    startHistories();
    startParameters();
  } else {
    withoutMetrics();
    byId('all-params').addEventListener('change', drawParams);
    page.listeners.push(drawParams);
  }
  drawHead();
  drawArtifacts();
  const place = takeUp();
  changed();
  scrollTo(0, place);
  if (page.data.again) setTimeout(readAgain, page.data.again * 1000);
  startPrinting();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  document.documentElement.dataset.drawn = 'yes';
}

start().catch((error) => {
  byId('trouble').hidden = false;
  byId('trouble').textContent = typeof DecompressionStream === 'undefined'
    ? 'This browser is too old for this page: it needs Chrome 93, Firefox 113 or Safari 16.4, or later.' : `This page could not be drawn: ${error.message}`;
});
