/* A pair as pictures: counts, departure from independence, single cells. Drawn as SVG with the colours in attributes,
   so that what is saved needs no style sheet. */

const SVG = 'http://www.w3.org/2000/svg';
const SCREEN = { ink: 'var(--ink)', muted: 'var(--muted)', line: 'var(--line)', paper: 'var(--paper)', bar: 'var(--muted)' };
const PRINT = { ink: '#1c2733', muted: '#66727f', line: '#d9dee4', paper: '#ffffff', bar: '#66727f' };
const VIEWS = { density: 'Cells in a bin', residual: 'Against independence', cells: 'Single cells' };
const SIDE = 190; // of a heatmap, in the units of its SVG
const MARGIN = 24; // of the histograms beside it
const POOLED = { 1000: 16, 300: 8 }; // fewer cells than this: so many bins, as 32 x 32 would be speckle
const FONT = 'Inter, system-ui, sans-serif';

function svg(name, attributes, ...inside) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

function pooled(counts, bins, wanted) {
  if (wanted >= bins || bins % wanted) return counts;
  const step = bins / wanted;
  const out = new Float64Array(wanted * wanted);
  for (let i = 0; i < counts.length; i++) out[Math.floor(i / bins / step) * wanted + Math.floor((i % bins) / step)] += counts[i];
  return out;
}

function margins(counts, bins) {
  const across = new Float64Array(bins);
  const up = new Float64Array(bins);
  let total = 0;
  counts.forEach((count, i) => { across[i % bins] += count; up[Math.floor(i / bins)] += count; total += count; });
  return { across, up, total };
}

/* Cells that independent genes would have in each bin; of several groups together: independent within each of them. */
function expectedOf(picture, at, bins) {
  const parts = at === 0 && picture.names.length > 1 ? picture.counts.slice(1) : [picture.counts[at]];
  const expected = new Float64Array(bins * bins);
  for (const part of parts) {
    const { across, up, total } = margins(pooled(part, picture.bins, bins), bins);
    for (let i = 0; i < expected.length; i++) expected[i] += (up[Math.floor(i / bins)] * across[i % bins]) / Math.max(total, 1);
  }
  return expected;
}

/* Cells that bins have beyond that, in standard deviations. */
const residuals = (counts, expected) => Array.from(counts, (count, i) => (count - expected[i]) / Math.sqrt(expected[i] + 0.25));

function colourOf(view, value, total, most) {
  const { density, residual, empty, limit } = config.look;
  const pick = (steps, share) => steps[Math.max(0, Math.min(steps.length - 1, Math.round(share * (steps.length - 1))))];
  if (view === 'residual') return pick(residual, (value + limit) / (2 * limit));
  if (!value) return empty;
  return pick(density, 1 + Math.log(value / total) / Math.log(Math.max(most, 2))); // from one cell of all to all cells
}

/* The pixels of a heatmap as a picture of their own: small, and sharp at every size. */
function heat(view, picture, at, bins) {
  const counts = pooled(picture.counts[at], picture.bins, bins);
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = bins;
  const context = canvas.getContext('2d');
  const { total } = margins(counts, bins);
  const values = view === 'residual' ? residuals(counts, expectedOf(picture, at, bins)) : counts;
  values.forEach((value, i) => {
    context.fillStyle = colourOf(view, value, total, picture.most);
    context.fillRect(i % bins, bins - 1 - Math.floor(i / bins), 1, 1);
  });
  return canvas.toDataURL();
}

function dots(picture, group, palette) {
  const radius = Math.max(1.1, Math.min(2.6, 60 / Math.sqrt(picture.bin_a.length)));
  const shift = (i, salt) => { const x = Math.sin((i + 1) * 12.9898 + salt) * 43758.5453; return x - Math.floor(x); };
  const width = SIDE / picture.bins;
  const all = svg('g', { fill: palette === PRINT ? '#0072b2' : 'var(--accent)', 'fill-opacity': 0.5 });
  for (let i = 0; i < picture.bin_a.length; i++) {
    if (group >= 0 ? picture.group[i] !== group : picture.group[i] >= picture.names.length - 1) continue;
    const x = (picture.bin_a[i] + shift(i, 1)) * width;
    const y = SIDE - (picture.bin_b[i] + shift(i, 2)) * width;
    all.append(svg('circle', { cx: x.toFixed(1), cy: y.toFixed(1), r: radius.toFixed(1) }));
  }
  return all;
}

function bars(values, palette, upright) {
  const highest = Math.log1p(Math.max(...values)) || 1;
  const width = SIDE / values.length;
  const all = svg('g', { fill: palette.bar, 'fill-opacity': 0.55 });
  values.forEach((value, i) => {
    const size = (Math.log1p(value) / highest) * (MARGIN - 6);
    const box = upright
      ? { x: SIDE + 4, y: SIDE - (i + 1) * width, width: size, height: width - 0.5 }
      : { x: i * width, y: -4 - size, width: width - 0.5, height: size };
    all.append(svg('rect', Object.fromEntries(Object.entries(box).map(([k, v]) => [k, v.toFixed(2)]))));
  });
  return all;
}

const shortNumber = (value) => (value === null || value === undefined ? '' : Number(value.toPrecision(3)).toString());
const clipped = (text, most) => (text.length > most ? text.slice(0, most - 1) + '…' : text);

/* One panel: a heatmap or dots, histograms on two sides, names and ends of the axes. */
function panel(picture, at, view, bins, names, title, palette) {
  const counts = pooled(picture.counts[at], picture.bins, bins);
  const { across, up, total } = margins(counts, bins);
  const text = (words, place, more) =>
    svg('text', { ...place, fill: palette.muted, 'font-size': 12, 'font-family': FONT, ...more }, words);
  const body = svg('g', { transform: `translate(26 ${MARGIN + 22})` },
    view === 'cells'
      ? svg('g', {}, svg('rect', { width: SIDE, height: SIDE, fill: 'none', stroke: palette.line }), dots(picture, at - 1, palette))
      : svg('image', { href: heat(view, picture, at, bins), width: SIDE, height: SIDE, style: 'image-rendering: pixelated', preserveAspectRatio: 'none' }),
    bars(across, palette, false), bars(up, palette, true),
    text(shortNumber(picture.ends[0][0]), { x: 0, y: SIDE + 14 }),
    text(shortNumber(picture.ends[0][1]), { x: SIDE, y: SIDE + 14 }, { 'text-anchor': 'end' }),
    text(clipped(names[0], 24), { x: SIDE / 2, y: SIDE + 15 }, { 'text-anchor': 'middle', fill: palette.ink, 'font-size': 13 }),
    text(shortNumber(picture.ends[1][0]), { x: 0, y: 0 }, { transform: `translate(-9 ${SIDE}) rotate(-90)` }),
    text(clipped(names[1], 24), { x: 0, y: 0 }, { 'text-anchor': 'middle', transform: `translate(-9 ${SIDE / 2}) rotate(-90)`, fill: palette.ink, 'font-size': 13 }),
    text(shortNumber(picture.ends[1][1]), { x: 0, y: 0 }, { 'text-anchor': 'end', transform: 'translate(-9 0) rotate(-90)' }),
    text(clipped(title, 34), { x: 0, y: -MARGIN - 6 }, { fill: palette.ink, 'font-size': 13, 'font-weight': 600 }));
  const drawn = svg('svg', { xmlns: SVG, viewBox: `0 0 ${PANEL_WIDTH} ${PANEL_HEIGHT}`, role: 'img', width: PANEL_WIDTH, height: PANEL_HEIGHT }, body);
  drawn.setAttribute('aria-label', `${VIEWS[view]} of ${names[0]} (to the right) and ${names[1]} (upwards), ${title}, ${total} cells`);
  return drawn;
}

const PANEL_WIDTH = SIDE + 26 + MARGIN;
const PANEL_HEIGHT = SIDE + MARGIN + 22 + 24;

/* What a bin says, under the pointer. */
function readBin(event, drawn, picture, at, bins, names) {
  const box = drawn.getBoundingClientRect();
  const scale = PANEL_WIDTH / box.width;
  const x = Math.floor((((event.clientX - box.left) * scale - 26) / SIDE) * bins);
  const y = Math.floor((1 - ((event.clientY - box.top) * scale - MARGIN - 22) / SIDE) * bins);
  if (x < 0 || y < 0 || x >= bins || y >= bins) return '';
  const counts = pooled(picture.counts[at], picture.bins, bins);
  const expected = expectedOf(picture, at, bins)[y * bins + x];
  const range = (which, bin) => `${names[which]} bin ${bin + 1} of ${bins}`;
  return `${range(0, x)}, ${range(1, y)}: ${counts[y * bins + x].toLocaleString('en')} cells; ${expected.toFixed(expected < 10 ? 1 : 0)} expected of independent genes`;
}

/* The colours explained. */
function scaleOf(view, most, palette) {
  const steps = view === 'residual' ? config.look.residual : config.look.density;
  const id = `scale-${view}-${palette === PRINT ? 'p' : 's'}`;
  const stops = steps.map((colour, i) => svg('stop', { offset: (i / (steps.length - 1)).toFixed(3), 'stop-color': colour }));
  const limit = config.look.limit;
  const words = view === 'residual' ? [`fewer cells (−${limit} sd)`, 'as if independent', `more (+${limit} sd)`]
    : ['1 cell', 'share of the cells, logarithmic', `all ${most.toLocaleString('en')}`];
  const text = (word, x, anchor) => svg('text', { x, y: 22, fill: palette.muted, 'font-size': 11, 'font-family': FONT, 'text-anchor': anchor }, word);
  const width = 340;
  return svg('svg', { xmlns: SVG, viewBox: `0 0 ${width} 26`, width, height: 26, role: 'img', 'aria-label': words.join(' ') },
    svg('defs', {}, svg('linearGradient', { id }, ...stops)), svg('rect', { width, height: 8, rx: 2, fill: `url(#${id})` }),
    text(words[0], 0, 'start'), text(words[1], width / 2, 'middle'), text(words[2], width, 'end'));
}

/* Several panels as one SVG, for a file. */
function joined(panels, columns, scale) {
  const rows = Math.ceil(panels.length / columns);
  const width = Math.min(columns, panels.length) * (PANEL_WIDTH + 12) + 12;
  const high = rows * (PANEL_HEIGHT + 8) + 8;
  const wide = Math.max(width, scale ? 364 : 0);
  const all = svg('svg', { xmlns: SVG, viewBox: `0 0 ${wide} ${high + (scale ? 34 : 0)}`, width: wide, height: high + (scale ? 34 : 0) },
    svg('rect', { width: '100%', height: '100%', fill: PRINT.paper }));
  panels.forEach((one, i) => {
    const place = { x: 12 + (i % columns) * (PANEL_WIDTH + 12), y: 8 + Math.floor(i / columns) * (PANEL_HEIGHT + 8) };
    for (const [key, value] of Object.entries(place)) one.setAttribute(key, value);
    all.append(one);
  });
  if (scale) {
    scale.setAttribute('x', 12);
    scale.setAttribute('y', high);
    all.append(scale);
  }
  return all;
}

function saveSvg(drawn, name) {
  saveText('<?xml version="1.0" encoding="UTF-8"?>\n' + new XMLSerializer().serializeToString(drawn), name, 'image/svg+xml');
}

async function savePng(drawn, name, scale = 3) {
  const image = new Image();
  const ready = new Promise((done, failed) => { image.onload = done; image.onerror = () => failed(new Error('The picture could not be drawn.')); });
  image.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(new XMLSerializer().serializeToString(drawn));
  await ready;
  const canvas = document.createElement('canvas');
  canvas.width = Number(drawn.getAttribute('width')) * scale;
  canvas.height = Number(drawn.getAttribute('height')) * scale;
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  saveBlob(await new Promise((done) => canvas.toBlob(done, 'image/png')), name);
}
