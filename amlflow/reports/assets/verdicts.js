// What goes beyond single runs: what the gates found, and the groups of runs that differ by seed alone.

const MOST_GROUP_ROWS = 200;
const MOST_GROUPS_DRAWN = 60;

function drawGates() {
  const {gates} = page.data;
  byId('gates-part').hidden = !gates;
  if (!gates) return;
  byId('gate-summary').textContent = `${gates.summary}.`;
  byId('gate-summary').className = gates.failed ? 'bad' : 'best';
  const head = element('tr', {}, ...['gate', page.data.groups ? 'group' : 'run', 'found'].map((text) => element('th', {scope: 'col'}, text)));
  // A subject is the position of a run, or the name of a group.
  const called = (subject) => (typeof subject === 'number' ? nameAndBadges(subject, 60) : [element('span', {title: subject}, shortened(subject, 60))]);
  const rows = gates.rows.map(([outcome, subject, sentence]) => element('tr', {},
    element('td', {class: outcome.endsWith('passed') ? 'best' : 'bad'}, outcome), element('td', {class: 'long'}, ...called(subject)), element('td', {class: 'wide'}, sentence)));
  replace(byId('gate-table'), element('thead', {}, head), element('tbody', {}, ...rows));
}

const probability = (p) => (p === null || Number.isNaN(p) ? '–' : p < 0.001 ? '< 0.001' : p.toFixed(3));

// Each group by the page's metric, as {group, n, mean, half, p, best}; none where the page has no room for it.
function measuredGroups() {
  const {metrics} = page.data.groups;
  const key = page.data.metrics[page.metric]?.key;
  if (!Object.hasOwn(metrics, key)) return [];
  const {cells, best} = metrics[key];
  return cells.map((cell, group) => {
    const [n, mean, half, p] = cell || [0, null, null, null];
    return {group, n, mean: asNumber(mean), half: asNumber(half), p: asNumber(p), best: best.includes(group)};
  });
}

function groupName(group, limit) {
  const badge = group === page.data.groups.baseline ? element('span', {class: 'badge'}, 'baseline') : null;
  return [element('span', {title: page.data.groups.names[group]}, shortened(page.data.groups.names[group], limit)), badge];
}

function drawGroupTable(measured) {
  const sizes = page.data.groups.runs.map((runs) => runs.length);
  const tested = measured.some(({p}) => p !== null);
  const columns = ['runs', 'mean', '± half of the interval', ...(tested ? ['p'] : [])];
  const head = element('tr', {}, element('th', {scope: 'col', class: 'held'}, 'group'), ...columns.map((text) => element('th', {scope: 'col', class: 'number'}, text)));
  const rows = measured.slice(0, MOST_GROUP_ROWS).map(({group, n, mean, half, p, best}) => element('tr', {},
    element('th', {scope: 'row', class: 'held'}, ...groupName(group, 60)),
    element('td', {class: 'number'}, n === sizes[group] ? String(n) : `${n} of ${sizes[group]}`),
    element('td', {class: best ? 'number best' : 'number'}, numberText(mean) + (best ? ' ★' : '')),
    element('td', {class: 'number'}, half === null ? '–' : numberText(half)),
    tested ? element('td', {class: 'number'}, probability(p)) : null));
  replace(byId('group-table'), element('thead', {}, head), element('tbody', {}, ...rows));
}

// Means with their intervals, and behind them the runs that they are of.
function drawGroupChart(measured) {
  const chart = byId('group-chart');
  const drawn = measured.filter(({mean}) => drawable(mean)).slice(0, MOST_GROUPS_DRAWN);
  if (!drawn.length) {
    blank(chart, measured.length ? 'No group has a mean of this metric that can be drawn.' : 'The page has no such metric of the groups.');
    return;
  }
  const {names, runs} = page.data.groups;
  const most = chart.clientWidth < 600 ? 16 : 32;
  const dots = drawn.flatMap(({group}, place) => runs[group].map((run) => [metricValue(page.metric, run), place, run])).filter(([value]) => drawable(value));
  const look = theme();
  draw(ready(chart), [{
    type: 'scatter', mode: 'markers', x: dots.map(([value]) => value), y: dots.map(([, place]) => place), marker: {color: look.quiet, size: 6, opacity: 0.5},
    text: dots.map(([, , run]) => literal(shortened(page.labels[run], 40))), hovertemplate: '%{text}: %{x:.6g}<extra></extra>',
  }, {
    type: 'scatter', mode: 'markers', x: drawn.map(({mean}) => mean), y: drawn.map((_, place) => place), marker: {color: COLOURS[0], size: 9, symbol: 'diamond'},
    error_x: {type: 'data', array: drawn.map(({half}) => (drawable(half) ? half : 0)), color: COLOURS[0], thickness: 1.6},
    text: drawn.map(({group}) => literal(shortened(names[group], 60))), hovertemplate: '%{text}: mean %{x:.6g}<extra></extra>',
  }], {
    height: 90 + 28 * drawn.length, showlegend: false, hovermode: 'closest', margin: {l: 20, r: 30, t: 12, b: 44},
    xaxis: {title: {text: literal(shortened(page.data.metrics[page.metric].key, 60))}},
    yaxis: {tickvals: drawn.map((_, place) => place), ticktext: drawn.map(({group}) => literal(shortened(names[group], most))), range: [drawn.length - 0.5, -0.5], fixedrange: true, showgrid: false, zeroline: false},
  });
}

function drawGroups() {
  const measured = measuredGroups();
  drawGroupChart(measured);
  drawGroupTable(measured);
  const {explanation} = page.data.groups;
  const said = [explanation[0].toUpperCase() + explanation.slice(1)];
  const drawn = measured.filter(({mean}) => drawable(mean)).length;
  if (drawn > MOST_GROUPS_DRAWN) said.push(`The first ${MOST_GROUPS_DRAWN} of ${drawn} groups are drawn.`);
  if (measured.length > MOST_GROUP_ROWS) said.push(`The first ${MOST_GROUP_ROWS} of ${measured.length} groups are listed.`);
  if (page.shown.length < page.data.runs.length) said.push('Groups are of all runs, whatever the filter keeps.');
  byId('group-note').textContent = said.join(' ');
}

function startVerdicts() {
  drawGates();
  byId('groups-part').hidden = !page.data.groups;
  if (page.data.groups) page.listeners.push(drawGroups);
}
