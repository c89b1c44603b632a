// The table of runs: which are shown, in which order, with which columns, and which are ticked for the charts.

const FIRST_METRICS = 8;
const FIRST_PARAMS = 8;
const FIRST_TICKED = 20;
const ROWS_AT_ONCE = 200;
// A filter that takes longer to draw waits for a pause in the typing.
const SLOW_MS = 60;
const PAUSE_MS = 250;

const table = {columns: [], chosen: new Set(), sort: null, rows: ROWS_AT_ONCE, conditions: [], unknown: []};

// A column: {id, label, kind, numeric, value(run) for sorting and conditions, text(run)}.
function allColumns() {
  const {runs, metrics, params, tags} = page.data;
  const several = (key) => new Set(runs.map((run) => run[key])).size > 1;
  const plain = (key, label) => ({id: key, label, kind: 'run', value: (run) => runs[run][key], text: (run) => runs[run][key] || '–'});
  const columns = [plain('status', 'status')];
  for (const key of ['workspace', 'experiment', 'user']) if (several(key)) columns.push(plain(key, key));
  if (runs.some((run) => run.parent)) columns.push(plain('parent', 'parent'));
  columns.push({id: 'start', label: 'started', kind: 'run', numeric: true, value: (run) => runs[run].start, text: (run) => momentText(runs[run].start)});
  columns.push({
    id: 'duration', label: 'duration', kind: 'run', numeric: true, text: (run) => durationText(runs[run].start, runs[run].end),
    value: (run) => (runs[run].end === null || runs[run].start === null ? null : (runs[run].end - runs[run].start) / 1000),
  });
  metrics.forEach((metric, index) => columns.push({
    id: `metrics.${metric.key}`, label: metric.key + {lower: ' ↓', higher: ' ↑', unknown: ''}[metric.direction], kind: 'metric', numeric: true,
    metric: index, best: new Set(metric.best), value: (run) => metricValue(index, run), text: (run) => numberText(metricValue(index, run)),
  }));
  for (const [kind, list] of [['params', params], ['tags', tags]]) {
    for (const one of list) {
      columns.push({id: `${kind}.${one.key}`, label: one.key, kind, value: (run) => valueOf(one, run), text: (run) => valueOf(one, run) ?? '–', differs: Boolean(one.values)});
    }
  }
  return columns;
}

function firstColumns() {
  const of = (kind) => table.columns.filter((column) => column.kind === kind);
  const metrics = of('metric').slice(0, FIRST_METRICS);
  const params = of('params').filter((column) => column.differs).slice(0, FIRST_PARAMS);
  return new Set([...of('run'), ...metrics, ...params].map((column) => column.id));
}

const TOKEN = /\s*(?:"([^"]*)"?|'([^']*)'?|`([^`]*)`?|(<=|>=|==|!=|=|<|>)|([^\s"'`<>=!]+|!))/y;

function tokensOf(text) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match; match = TOKEN.exec(text)) {
    const quoted = match[1] ?? match[2] ?? match[3];
    tokens.push({text: quoted ?? match[4] ?? match[5], operator: match[4] !== undefined, plain: quoted === undefined});
  }
  return tokens;
}

// Words, and conditions KEY OP VALUE with one of < <= > >= = == !=, with or without blanks around it; quotes and backticks hold
// words together. All of them must hold, or all of another part between `or`; `and` may be left out, `not` turns one round.
function conditionsOf(text) {
  const tokens = tokensOf(text);
  const parts = [[]];
  table.unknown = [];
  for (let place = 0, negated = false; place < tokens.length; place += 1) {
    const [token, sign, value] = tokens.slice(place, place + 3);
    const joins = token.plain && !token.operator && !(sign && sign.operator) ? token.text.toLowerCase() : '';
    if (joins === 'or') parts.push([]);
    else if (joins === 'not') negated = !negated;
    else if (joins !== 'and') {
      const asks = !token.operator && sign && sign.operator;
      const column = asks && findColumn(token.text);
      if (asks && !column) table.unknown.push(token.text);
      if (asks) place += value ? 2 : 1;
      // What is still being typed holds for all.
      if (!asks) parts.at(-1).push({negated, word: token.text.toLowerCase()});
      else if (value) parts.at(-1).push(column ? {negated, column, operator: sign.text, wanted: value.text} : {negated, word: token.text.toLowerCase() + sign.text + value.text.toLowerCase()});
      negated = false;
    }
  }
  return parts;
}

function findColumn(key) {
  const name = {name: 'name', run: 'name', id: 'id', started: 'start'}[key] || key;
  if (name === 'name' || name === 'id') return {value: (run) => page.data.runs[run][name]};
  return table.columns.find((column) => column.id === name) || table.columns.find((column) => column.id.replace(/^(metrics|params|tags)\./, '') === name);
}

function holds(condition, run) {
  if (condition.word !== undefined) {
    const {name, id, status, workspace, experiment, user} = page.data.runs[run];
    const texts = [name, id, status, workspace, experiment, user, ...page.data.params.map((param) => valueOf(param, run)), ...page.data.tags.map((tag) => valueOf(tag, run))];
    return texts.some((text) => text && text.toLowerCase().includes(condition.word));
  }
  const value = condition.column.value(run);
  if (value === null || value === undefined) return condition.operator === '!=';
  const numbers = [Number(value), Number(condition.wanted)];
  const numeric = condition.wanted.trim() !== '' && !numbers.some(Number.isNaN);
  const [one, other] = numeric ? numbers : [String(value).toLowerCase(), condition.wanted.toLowerCase()];
  switch (condition.operator) {
    case '=':
    case '==': return one === other;
    case '!=': return one !== other;
    case '<': return numeric && one < other;
    case '<=': return numeric && one <= other;
    case '>': return numeric && one > other;
    default: return numeric && one >= other;
  }
}

const inBrushes = (run) => [...page.brushes.values()].every((brush) => brush(run));

const fitsFilter = (run) => table.conditions.some((part) => part.every((condition) => holds(condition, run) !== condition.negated));

// Numbers before texts, what is missing or NaN last in either direction.
function compareCells(one, other, downwards) {
  const missing = (value) => value === null || value === undefined || value === '' || Number.isNaN(value);
  if (missing(one) || missing(other)) return Number(missing(one)) - Number(missing(other));
  const [a, b] = [Number(one), Number(other)];
  const numeric = [!Number.isNaN(a), !Number.isNaN(b)];
  if (numeric[0] !== numeric[1]) return numeric[0] ? -1 : 1;
  const order = numeric[0] ? a - b : String(one).localeCompare(String(other), undefined, {numeric: true});
  return downwards ? -order : order;
}

function arrange() {
  table.conditions = conditionsOf(byId('filter').value);
  page.shown = page.data.runs.map((_, run) => run).filter((run) => fitsFilter(run) && inBrushes(run));
  if (table.sort) {
    const column = table.sort.id === 'name' ? findColumn('name') : table.columns.find((one) => one.id === table.sort.id);
    page.shown.sort((one, other) => compareCells(column.value(one), column.value(other), table.sort.downwards) || one - other);
  }
  const count = page.shown.length === page.data.runs.length ? `${page.shown.length} runs` : `${page.shown.length} of ${page.data.runs.length} runs`;
  byId('count').textContent = table.unknown.length ? `${count}; no column is named ${table.unknown.map((key) => shortened(key, 30)).join(', ')}` : count;
}

function sortBy(id, startDownwards) {
  if (table.sort && table.sort.id === id) {
    table.sort = table.sort.downwards === startDownwards ? {id, downwards: !startDownwards} : null;
  } else {
    table.sort = {id, downwards: startDownwards};
  }
  arrange();
  changed();
}

function heading(column, className) {
  const sorted = table.sort && table.sort.id === column.id;
  const arrow = sorted ? (table.sort.downwards ? ' ▼' : ' ▲') : '';
  const button = keyed(`sort ${column.id}`, element('button', {type: 'button', title: `Sort by ${column.label}`}, shortened(column.label, 32) + arrow));
  const downwards = column.kind === 'metric' && page.data.metrics[column.metric].direction !== 'lower';
  button.addEventListener('click', () => sortBy(column.id, downwards));
  return element('th', {scope: 'col', class: className, 'aria-sort': sorted ? (table.sort.downwards ? 'descending' : 'ascending') : 'none'}, button);
}

// Under its key it has the focus again when the table is drawn anew.
function keyed(key, made) {
  made.dataset.key = key;
  return made;
}

function tick(checked, label, act) {
  const box = element('input', {type: 'checkbox', 'aria-label': label});
  box.checked = checked;
  box.addEventListener('change', () => act(box.checked));
  return box;
}

function cell(column, run) {
  const text = column.text(run);
  if (column.kind !== 'metric') {
    return element('td', {class: column.numeric ? 'number' : 'long'}, unfolding(String(text)));
  }
  const best = column.best.has(run);
  const {baseline} = page.data;
  const [value, base] = [column.value(run), baseline === null ? null : column.value(baseline)];
  const delta = value !== null && base !== null && run !== baseline && Number.isFinite(value - base)
    ? element('span', {class: 'delta'}, (value >= base ? '+' : '−') + numberText(Math.abs(value - base))) : null;
  return element('td', {class: best ? 'number best' : 'number'}, text + (best ? ' ★' : ''), delta);
}

// Long text opens to the whole of it, by mouse or key.
const unfolding = (text, most = 60) => (text.length > most ? element('details', {class: 'unfolding'}, element('summary', {}, shortened(text, most)), text) : text);

function nameAndBadges(run, limit) {
  const {name, id, deleted} = page.data.runs[run];
  const badges = [run === page.data.baseline && 'baseline', deleted && 'deleted'].filter(Boolean).map((text) => element('span', {class: 'badge'}, text));
  return [element('span', {title: `${name} (${id})`}, shortened(page.labels[run], limit)), ...badges];
}

const runName = (run, limit = 40) => [swatchOf(run), ...nameAndBadges(run, limit)];

function drawTable() {
  const columns = table.columns.filter((column) => table.chosen.has(column.id));
  const all = page.shown.length > 0 && page.shown.every((run) => page.drawn.has(run));
  const tickAll = keyed('all', tick(all, 'Draw all of these runs', (checked) => {
    for (const run of page.shown) page.drawn[checked ? 'add' : 'delete'](run);
    changed();
  }));
  const head = element('tr', {}, element('th', {scope: 'col', 'aria-label': 'Drawn'}, tickAll), heading({id: 'name', label: 'run', kind: 'run'}, 'held'),
    ...columns.map((column) => heading(column, column.numeric ? 'number' : '')));
  const rows = page.shown.slice(0, table.rows).map((run) => {
    const row = element('tr', {},
      element('td', {}, keyed(`tick ${run}`, tick(page.drawn.has(run), `Draw ${page.labels[run]}`, (checked) => {
        page.drawn[checked ? 'add' : 'delete'](run);
        changed();
      }))),
      element('th', {scope: 'row', class: 'held'}, ...runName(run)), ...columns.map((column) => cell(column, run)));
    row.addEventListener('mouseenter', () => emphasize(run));
    row.addEventListener('mouseleave', () => emphasize(null));
    return row;
  });
  if (!rows.length) rows.push(element('tr', {}, element('td', {colspan: String(columns.length + 2)}, 'No run fits.')));
  const focused = document.activeElement?.dataset.key;
  replace(byId('run-table'), element('thead', {}, head), element('tbody', {}, ...rows));
  if (focused) [...byId('run-table').querySelectorAll('[data-key]')].find((one) => one.dataset.key === focused)?.focus({preventScroll: true});
  const left = page.shown.length - table.rows;
  byId('more').hidden = left <= 0;
  byId('more').textContent = `Show ${left} more`;
}

function drawColumnChoice() {
  const wanted = byId('column-filter').value.toLowerCase();
  const fitting = table.columns.filter((column) => column.label.toLowerCase().includes(wanted));
  replace(byId('columns'), ...fitting.slice(0, 300).map((column) => element('label', {title: column.id}, tick(table.chosen.has(column.id), column.id, (checked) => {
    table.chosen[checked ? 'add' : 'delete'](column.id);
    drawTable();
  }), shortened(column.label, 40))), fitting.length > 300 ? element('span', {class: 'quiet'}, `and ${fitting.length - 300} more: find them by name.`) : null ?? '');
}

function startRuns() {
  table.columns = allColumns();
  table.chosen = firstColumns();
  page.data.runs.slice(0, FIRST_TICKED).forEach((_, run) => page.drawn.add(run));
  if (page.data.baseline !== null) page.drawn.add(page.data.baseline);
  let took = 0;
  let waiting = 0;
  const filter = () => {
    const began = performance.now();
    clearTimeout(waiting);
    waiting = 0;
    table.rows = ROWS_AT_ONCE;
    arrange();
    changed();
    took = performance.now() - began;
  };
  byId('filter').addEventListener('input', () => {
    if (took < SLOW_MS) return filter();
    clearTimeout(waiting);
    waiting = setTimeout(filter, PAUSE_MS);
  });
  byId('filter').addEventListener('change', () => {
    if (waiting) filter();
  });
  byId('column-filter').addEventListener('input', drawColumnChoice);
  byId('more').addEventListener('click', () => {
    table.rows = Infinity;
    drawTable();
  });
  arrange();
  drawColumnChoice();
  page.listeners.push(drawTable);
}
