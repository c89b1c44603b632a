// The metric histories: unpacked one series at a time, when it is first drawn.

const VALUES_WIDE = 1;
const STEPS_WIDE = 2;
const TIMES_WIDE = 4;

const series = {rows: new Map(), curves: new Set(), bytes: null, unpacked: new Map()};

async function readSeries() {
  const whole = await inflated('histories');
  const length = new DataView(whole.buffer).getUint32(0, true);
  series.bytes = whole.subarray(4 + length);
  for (const row of JSON.parse(new TextDecoder().decode(whole.subarray(4, 4 + length)))) {
    series.rows.set(`${row[0]} ${row[1]}`, row);
    if (row[4] > 1) series.curves.add(row[1]);
  }
}

// A column of numbers is stored as planes: all first bytes, then all second ones.
function column(offset, count, Type) {
  const width = Type.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(count * width);
  for (let plane = 0; plane < width; plane += 1) {
    for (let place = 0; place < count; place += 1) bytes[place * width + plane] = series.bytes[offset + plane * count + place];
  }
  return new Type(bytes.buffer);
}

function differences(offset, count, wide, first) {
  if (wide) return Array.from(column(offset, count, Float64Array));
  let sum = first;
  return Array.from(column(offset, count, Int32Array), (difference) => (sum += difference));
}

// {steps, times (epoch ms), values, logged (points before thinning)}, by step; null where the run has no history of it.
function historyOf(run, metric) {
  const key = `${run} ${metric}`;
  const row = series.rows.get(key);
  if (!row) return null;
  if (!series.unpacked.has(key)) {
    const [, , offset, count, logged, step, time, kinds] = row;
    const values = Array.from(column(offset, count, kinds & VALUES_WIDE ? Float64Array : Float32Array));
    const stepsAt = offset + count * (kinds & VALUES_WIDE ? 8 : 4);
    const timesAt = stepsAt + count * (kinds & STEPS_WIDE ? 8 : 4);
    series.unpacked.set(key, {
      steps: differences(stepsAt, count, kinds & STEPS_WIDE, step),
      times: differences(timesAt, count, kinds & TIMES_WIDE, time),
      values,
      logged,
    });
  }
  return series.unpacked.get(key);
}

// The points along an axis, in its order: by time a run that was taken up again goes on where its clock does.
function along(history, axis) {
  const order = history.values.map((_, index) => index);
  if (axis !== 'step') order.sort((one, other) => history.times[one] - history.times[other] || one - other);
  const start = axis === 'elapsed' ? history.times[order[0]] : 0;
  const place = axis === 'step' ? (index) => history.steps[index] : axis === 'wall' ? (index) => new Date(history.times[index])
    : (index) => (history.times[index] - start) / 1000;
  return {x: order.map(place), y: order.map((index) => history.values[index])};
}

// An exponential moving average without the pull towards zero at its beginning: the sum is divided by 1 - weight^n.
// What is not drawn is left as it is and does not count.
function smoothed(values, weight) {
  let average = 0;
  let counted = 0;
  return values.map((value) => {
    if (!drawable(value)) return value;
    counted += 1;
    average = weight * average + (1 - weight) * value;
    return average / (1 - weight ** counted);
  });
}
