// The files of the runs side by side: images, confusion matrices, models, environments and code.

const MOST_DIFF_LINES = 20000;

function sideBySide(title, entries, build) {
  return [element('h3', {}, title), element('div', {class: 'side'}, ...entries.map(([run, value]) => element('figure', {}, element('figcaption', {}, ...runName(run)), build(value))))];
}

// Paths that more runs have come first; of each the runs that have it.
function byPath(kind) {
  const paths = new Map();
  for (const files of page.data.files) {
    for (const [path, value] of Object.entries(files[kind])) {
      if (!paths.has(path)) paths.set(path, []);
      paths.get(path).push([files.run, value]);
    }
  }
  return [...paths].sort((one, other) => other[1].length - one[1].length || one[0].localeCompare(other[0]));
}

function image(address, path) {
  const shown = element('img', {alt: path});
  const button = element('button', {type: 'button', class: 'zoom', 'aria-label': `Show ${path} larger or smaller`}, shown);
  // Scripts in an SVG do not run in an image, and the page's policy lets it load nothing.
  if (/^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*$/.test(address)) shown.src = address;
  button.addEventListener('click', () => button.parentElement.classList.toggle('large'));
  return button;
}

function matrix({labels, counts}) {
  const totals = counts.map((row) => row.reduce((sum, value) => sum + Math.abs(value), 0));
  const head = element('tr', {}, element('th', {scope: 'col'}, 'true \\ predicted'), ...labels.map((label) => element('th', {scope: 'col', title: label}, shortened(label, 16))));
  const rows = counts.map((row, index) => element('tr', {}, element('th', {scope: 'row', title: labels[index]}, shortened(labels[index], 16)), ...row.map((value) => {
    const cell = element('td', {}, numberText(value));
    const share = totals[index] ? Math.abs(value) / totals[index] : 0;
    cell.style.backgroundColor = `rgba(var(--heat), ${(share * 0.55).toFixed(3)})`;
    cell.setAttribute('title', `${(share * 100).toFixed(1)} % of this class`);
    return cell;
  })));
  return element('div', {class: 'scroll'}, element('table', {class: 'matrix'}, element('thead', {}, head), element('tbody', {}, ...rows)));
}

// Facts by name, a column for each run; a row whose values differ is marked. `only` leaves out the rows that agree.
function facts(columns, only) {
  const names = [...new Set(columns.flatMap(([, values]) => Object.keys(values)))];
  const rows = names.map((name) => [name, columns.map(([, values]) => (Object.hasOwn(values, name) ? values[name] : null))]);
  const differs = ([, values]) => new Set(values).size > 1;
  const shown = only ? rows.filter(differs) : rows;
  const alike = rows.length - rows.filter(differs).length;
  const head = element('tr', {}, element('th', {scope: 'col', class: 'held'}, ''), ...columns.map(([run]) => element('th', {scope: 'col'}, ...runName(run, 28))));
  const body = shown.map((row) => element('tr', {class: differs(row) ? 'differs' : ''}, element('th', {scope: 'row', class: 'held', title: row[0]}, shortened(row[0])), ...row[1].map((value) => element('td', {}, value === null ? '–' : value))));
  const made = shown.length ? [element('div', {class: 'scroll tall'}, element('table', {class: 'facts'}, element('thead', {}, head), element('tbody', {}, ...body)))] : [];
  if (only && columns.length > 1) made.push(element('p', {class: 'quiet'}, shown.length ? `${alike} more are the same.` : `All ${alike} are the same.`));
  return made;
}

function diff(text) {
  const lines = text.split('\n');
  if (lines[lines.length - 1] === '') lines.pop();
  const kind = (line) => {
    if (/^(diff |index |--- |\+\+\+ |new file|deleted file|similarity|rename |# )/.test(line)) return 'file';
    if (line.startsWith('@@')) return 'place';
    return line.startsWith('+') ? 'added' : line.startsWith('-') ? 'removed' : '';
  };
  const shown = lines.slice(0, MOST_DIFF_LINES).map((line) => element('span', {class: kind(line)}, line));
  if (lines.length > MOST_DIFF_LINES) shown.push(element('span', {class: 'file'}, `… ${lines.length - MOST_DIFF_LINES} more lines`));
  return element('pre', {class: 'diff', tabindex: '0'}, ...shown);
}

function codeParts() {
  const made = [];
  const tag = page.data.tags.find((one) => one.key === 'mlflow.source.git.commit');
  const commits = tag ? page.data.files.map(({run}) => [run, {commit: valueOf(tag, run)?.slice(0, 10) ?? 'none'}]) : [];
  if (commits.length) made.push(element('h3', {}, 'Code'), ...facts(commits, false));
  for (const change of page.data.changes) {
    made.push(element('h3', {}, `Git diff ${change.before.slice(0, 10)} → ${change.after.slice(0, 10)}`));
    made.push(change.text ? diff(change.text) : element('p', {class: 'quiet'}, 'The same code.'));
  }
  for (const {run, uncommitted} of page.data.files) {
    if (uncommitted) made.push(element('h3', {}, 'Not committed: ', ...runName(run)), diff(uncommitted));
  }
  return made;
}

function drawArtifacts() {
  const made = [];
  for (const [path, entries] of byPath('matrices')) made.push(...sideBySide(`Confusion matrix ${path}`, entries, matrix));
  for (const [path, entries] of byPath('images')) made.push(...sideBySide(path, entries, (address) => image(address, path)));
  for (const [name, entries] of byPath('models')) made.push(element('h3', {}, `Model ${name}`), ...facts(entries, false));
  for (const [name, entries] of byPath('packages')) made.push(element('h3', {}, `Environment of ${name}`), ...facts(entries, entries.length > 1));
  made.push(...codeParts());
  if (!made.length) made.push(element('p', {class: 'quiet'}, 'These runs have no images, confusion matrices, models, environments or code to show.'));
  replace(byId('artifact-parts'), ...made);
}
