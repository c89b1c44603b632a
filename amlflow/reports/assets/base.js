// What every part of the page uses. Text reaches the document only as text nodes and plain attributes, never as markup.

const page = {data: null, labels: [], shown: [], drawn: new Set(), metric: 0, historyMetric: 0, brushes: new Map(), listeners: []};

const byId = (id) => document.getElementById(id);

const PLAIN_ATTRIBUTES = new Set(['type', 'title', 'class', 'scope', 'colspan', 'aria-sort', 'aria-label', 'alt', 'href', 'value', 'tabindex']);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (!PLAIN_ATTRIBUTES.has(key)) throw new Error(`The attribute ${key} is not set from here.`);
    made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const replace = (parent, ...children) => parent.replaceChildren(...children);

// plotly reads a few tags and entities in any text it is given.
const literal = (text) => String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

const shortened = (text, most = 48) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// JSON has no word for these three, so they come as texts.
function asNumber(value) {
  if (typeof value === 'number') return value;
  return value === 'NaN' ? NaN : value === 'Infinity' ? Infinity : value === '-Infinity' ? -Infinity : null;
}

// plotly takes what is much larger for no number, and draws lines that it then cannot place.
const drawable = (value) => Number.isFinite(value) && Math.abs(value) < 1e300;

function numberText(value) {
  if (value === null) return '–';
  if (!Number.isFinite(value)) return String(value);
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? String(value) : String(Number(value.toPrecision(6)));
}

const momentText = (ms) => (ms === null ? '–' : new Date(ms).toLocaleString());

function durationText(start, end) {
  if (start === null || end === null) return '–';
  const seconds = Math.max(0, end - start) / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${Math.floor(seconds / 60)}m${String(Math.floor(seconds % 60)).padStart(2, '0')}s`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, '0')}m`;
}

const valueOf = (column, run) => (column.values ? column.values[run] : column.same);

// Runs of one name are told apart by their workspace, else by their id.
function labelsOf(runs) {
  const places = new Map();
  for (const {name, workspace} of runs) places.set(name, (places.get(name) || new Set()).add(workspace));
  const labels = runs.map(({name, workspace}) => (places.get(name).size > 1 ? `${workspace}::${name}` : name));
  const times = new Map();
  for (const label of labels) times.set(label, (times.get(label) || 0) + 1);
  return labels.map((label, run) => (times.get(label) > 1 ? `${label} (${runs[run].id.split('::').pop().slice(0, 8)})` : label));
}

const metricOptions = () => page.data.metrics.map((metric, index) => element('option', {value: String(index)}, shortened(metric.key, 80)));

const metricValue = (metric, run) => asNumber(page.data.metrics[metric].values[run]);

const differing = () => page.data.params.map((param, index) => index).filter((index) => page.data.params[index].values);

// Told apart by people with any colour vision on both backgrounds; after ten runs the dash tells the rest apart.
const COLOURS = ['#3b82d6', '#e07b28', '#2f9e5b', '#d64545', '#8f6bd1', '#a9745b', '#d768b2', '#7d8794', '#a8a520', '#22a8b8'];
const DASHES = ['solid', 'dash', 'dot', 'dashdot', 'longdash'];
const colourOf = (run) => COLOURS[run % COLOURS.length];
const dashOf = (run) => DASHES[Math.floor(run / COLOURS.length) % DASHES.length];

function swatchOf(run) {
  const swatch = element('span', {class: 'swatch'});
  if (!page.drawn.has(run)) return swatch;
  const [line, gap] = {solid: [1, 0], dash: [5, 3], dot: [2, 2], dashdot: [7, 2], longdash: [9, 3]}[dashOf(run)];
  swatch.style.backgroundImage = `repeating-linear-gradient(90deg, ${colourOf(run)} 0 ${line}px, transparent ${line}px ${line + gap}px)`;
  return swatch;
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {back: read('--back'), panel: read('--panel'), text: read('--text'), quiet: read('--quiet'), line: read('--line'), strong: read('--strong')};
}

function layout(more) {
  const look = theme();
  const axis = {gridcolor: look.line, zerolinecolor: look.line, linecolor: look.line, automargin: true};
  const {xaxis = {}, yaxis = {}, ...rest} = more;
  return {
    paper_bgcolor: look.back, plot_bgcolor: look.back, font: {color: look.text, family: 'system-ui, sans-serif', size: 13},
    margin: {l: 56, r: 16, t: 12, b: 44}, hoverlabel: {namelength: 40}, ...rest,
    xaxis: {...axis, ...xaxis}, yaxis: {...axis, ...yaxis},
  };
}

const PLOT = {displaylogo: false, responsive: true, modeBarButtons: [['toImage', 'zoom2d', 'pan2d', 'zoomIn2d', 'zoomOut2d', 'resetScale2d']]};

function draw(target, traces, shape, options = {}) {
  return Plotly.react(target, traces, layout(shape), {...PLOT, ...options});
}

function blank(target, sentence) {
  if (target.classList.contains('js-plotly-plot')) Plotly.purge(target);
  target.classList.remove('js-plotly-plot');
  replace(target, element('p', {class: 'quiet'}, sentence));
}

// A chart that held a sentence must be empty before plotly draws in it.
function ready(target) {
  if (!target.classList.contains('js-plotly-plot')) replace(target);
  return target;
}

function changed() {
  for (const listener of page.listeners) listener();
}

async function inflated(id) {
  const holder = byId(id);
  const text = atob(holder.textContent);
  holder.remove();
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
