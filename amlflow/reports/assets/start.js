// Puts the page together, once its data is unpacked.

function drawHead() {
  const {title, made, runs, notes} = page.data;
  byId('title').textContent = title;
  const all = (key) => shortened([...new Set(runs.map((run) => run[key]))].join(', '), 120);
  byId('about').textContent = `${runs.length} run${runs.length === 1 ? '' : 's'} of ${all('experiment')} in workspace ${all('workspace')}; ${momentText(made)}`;
  replace(document.querySelector('nav'), ...[...document.querySelectorAll('main section')].map((section) => element('a', {href: `#${section.id}`}, section.querySelector('h2').textContent)));
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
  changed();
  startPrinting();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  document.documentElement.dataset.drawn = 'yes';
}

start().catch((error) => {
  byId('trouble').hidden = false;
  byId('trouble').textContent = typeof DecompressionStream === 'undefined'
    ? 'This browser is too old for this page: it needs Chrome 80, Firefox 113 or Safari 16.4, or later.' : `This page could not be drawn: ${error.message}`;
});
