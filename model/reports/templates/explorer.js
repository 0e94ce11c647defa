/* The page: what is looked at stands in its address, so that a link shows the same to everybody. */

const byId = (id) => document.getElementById(id);
const EMPTY = { gene: null, a: null, b: null, group: '', min_score: '', max_q: '', kind: '', sign: '', known: '', sort: 'score', rising: false, view: 'density', partners: 25 };
const CONDITIONS = ['group', 'min_score', 'max_q', 'kind', 'sign', 'known'];
const AT_ONCE = 100;
const MOST_FOUND = 12;
const MOST_PANELS = 24;
const LONGEST_NAME = 200; // in an address; a longer one goes by its number
const HEADS = {
  score: ['Score', config.scoreIs || 'probability that the two genes depend on each other, or are an edge, at the prior of the prediction'],
  forward: ['Direction', 'which way the network says the edge points'],
  kind: ['Kind', 'the likeliest kind of dependence'],
  correlation: ['Correlation', "Spearman's, over the binned cells"],
  q_value: ['q-value', 'false discovery rate at which the pair is called, from decoys'],
  label: ['Known', 'whether the pair was labelled an edge'],
  rank_stability: ['Stability', 'of the rank, over resamples of the cells'],
};
const SORTED = ['score', 'correlation', 'q_value', 'rank_stability'];
let state = { ...EMPTY };
let shown = { rows: null, total: 0, picture: null, told: null, network: null };
const asked = { list: '', pair: '', network: '' };

// ---------------------------------------------------------------- words

function make(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key.startsWith('aria-')) made.setAttribute(key, String(value));
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...inside.filter((each) => each !== null && each !== undefined));
  return made;
}

function inWords(value) {
  if (value === null || value === undefined) return '–';
  if (value > 0.999 && value < 1) return '> 0.999';
  if (value > 0 && value < 0.001) return '< 0.001';
  return value.toFixed(3);
}
const smallInWords = (value) => (value === null || value === undefined ? '–' : value === 0 ? '0' : value < 0.01 ? value.toPrecision(2) : value.toFixed(3)).replace('-', '−');
const signedInWords = (value) => (value === null || value === undefined ? '–' : (value > 0 ? '+' : '') + value.toFixed(2)).replace('-', '−');
const counted = (count) => count.toLocaleString('en');
const labelOf = (gene) => config.labels[gene];
const isolated = (text) => make('bdi', {}, text);
const knownInWords = (label) => (label > 0 ? 'known' : label === 0 ? 'labelled none' : 'new');

const symbols = new Map();
config.labels.forEach((label, gene) => symbols.set(label, symbols.has(label) ? null : gene));
const ids = new Map(config.ids.map((id, gene) => [id, gene]));
const folded = config.labels.map((label, gene) => `${label}\n${config.ids[gene].slice(0, LONGEST_NAME)}`.toLowerCase());

const nameOf = (gene) => (config.ids[gene].length <= LONGEST_NAME ? config.ids[gene] : `~${gene}`);
function numberOf(name) {
  if (ids.has(name)) return ids.get(name);
  if (symbols.get(name) !== undefined && symbols.get(name) !== null) return symbols.get(name);
  const long = /^~(\d+)$/.exec(name);
  if (long && Number(long[1]) < config.ids.length) return Number(long[1]);
  const same = folded.flatMap((both, gene) => (both.split('\n').includes(name.toLowerCase()) ? [gene] : []));
  return same.length === 1 ? same[0] : null;
}

// ---------------------------------------------------------------- the address

function readAddress() {
  const parts = new URLSearchParams(location.search || location.hash.replace(/^#/, '?'));
  const read = { ...EMPTY };
  const wrong = [];
  for (const part of ['gene', 'a', 'b']) {
    const name = parts.get(part);
    if (!name) continue;
    read[part] = numberOf(name);
    if (read[part] === null) wrong.push(name);
  }
  for (const part of [...CONDITIONS, 'sort', 'view']) if (parts.get(part)) read[part] = parts.get(part);
  if (!config.groups.includes(read.group)) {
    if (read.group) wrong.push(read.group);
    read.group = '';
  }
  if (!SORTED.includes(read.sort)) read.sort = 'score';
  if (!VIEWS[read.view]) read.view = 'density';
  read.rising = parts.get('rising') === '1';
  read.partners = [10, 25, 50].includes(Number(parts.get('partners'))) ? Number(parts.get('partners')) : 25;
  if (read.a === null || read.b === null) read.a = read.b = null;
  return [read, wrong];
}

function addressOf() {
  const parts = new URLSearchParams();
  const token = new URLSearchParams(location.search).get('token');
  for (const [part, value] of Object.entries(state)) {
    if (value === EMPTY[part] || value === null || value === '') continue;
    parts.set(part, ['gene', 'a', 'b'].includes(part) ? nameOf(value) : value === true ? '1' : value);
  }
  if (token) parts.set('token', token);
  return (config.saved ? '#' : '?') + parts;
}

function go(change, { replace = false } = {}) {
  state = { ...state, ...change };
  history[replace ? 'replaceState' : 'pushState'](null, '', addressOf());
  draw();
}

// ---------------------------------------------------------------- drawing what is asked for

const wanted = () => ({ gene: state.gene, ...Object.fromEntries(CONDITIONS.map((name) => [name, state[name]])) });

function draw() {
  document.title = (state.gene !== null ? `${labelOf(state.gene)} · ` : state.a !== null ? `${labelOf(state.a)} × ${labelOf(state.b)} · ` : '') + `${config.name} · Pairscape`;
  drawConditions();
  drawList();
  drawPair();
  drawAround();
}

const say = (text, wrong = false) => {
  byId('message').textContent = text;
  byId('message').classList.toggle('wrong', wrong);
};

async function drawList() {
  const heading = byId('heading');
  if (state.gene === null) heading.replaceChildren('Best pairs');
  else heading.replaceChildren('Partners of ', isolated(labelOf(state.gene)), make('button', { type: 'button', class: 'plain', title: 'back to the best pairs of all genes', onclick: () => go({ gene: null }) }, 'all genes'));
  const now = JSON.stringify([wanted(), state.sort, state.rising]);
  if (asked.list === now) return markRow();
  asked.list = now;
  byId('scroll').setAttribute('aria-busy', 'true');
  try {
    const told = await source.pairs(wanted(), 0, AT_ONCE, state.sort, state.rising);
    if (asked.list !== now) return;
    shown.rows = told;
    shown.total = told.total;
    fillTable(0);
    say(told.total ? '' : nothingWords());
    byId('scroll').scrollTop = 0;
    if (told.a.length && (state.a === null || (state.gene !== null && state.gene !== state.a && state.gene !== state.b))) openRow(0, { replace: true });
    markRow();
  } catch (error) {
    if (asked.list !== now) return;
    asked.list = '';
    shown.rows = null;
    shown.total = 0;
    fillTable(0);
    say(error.message, true);
  } finally {
    byId('scroll').removeAttribute('aria-busy');
  }
}

const nothingWords = () => state.gene === null
  ? 'No pair meets these filters.'
  : `No pair of ${labelOf(state.gene)} ${CONDITIONS.some((name) => state[name]) ? 'meets these filters' : 'was scored'}.`;

function fillTable(from) {
  const table = byId('pairs');
  const columns = ['score', ...config.columns];
  const own = state.gene !== null;
  table.classList.toggle('many', columns.length + (own ? 0 : 1) > 4);
  if (!from) {
    const heads = columns.map((name) => headOf(name));
    table.tHead.rows[0].replaceChildren(make('th', { scope: 'col', class: 'rank' }, '#'), make('th', { scope: 'col' }, own ? 'Partner' : 'Genes'), ...heads);
    table.tBodies[0].replaceChildren();
  }
  const told = shown.rows;
  for (let at = from; told && at < told.a.length; at++) table.tBodies[0].append(rowOf(told, at, columns, own));
  const held = told ? told.a.length : 0;
  byId('more').hidden = held >= shown.total;
  byId('more').textContent = `Show more (${counted(held)} of ${counted(shown.total)})`;
  drawSaves();
}

function headOf(name) {
  const [word, meaning] = HEADS[name];
  if (!SORTED.includes(name)) return make('th', { scope: 'col', title: meaning }, word);
  const active = state.sort === name;
  const low = name === 'q_value'; // where small is good
  const press = () => go({ sort: name, rising: active ? !state.rising : low });
  return make('th', { scope: 'col', class: name === 'score' ? '' : 'figure', 'aria-sort': active ? (state.rising ? 'ascending' : 'descending') : 'none' },
    make('button', { type: 'button', class: 'plain', title: `${meaning}; press to sort`, onclick: press }, word, make('i', { 'aria-hidden': 'true' }, active ? (state.rising ? ' ↑' : ' ↓') : '')));
}

function rowOf(told, at, columns, own) {
  const [a, b] = [told.a[at], told.b[at]];
  const partner = own ? (a === state.gene ? b : a) : null;
  const names = own ? [isolated(labelOf(partner))] : [isolated(labelOf(a)), make('span', { class: 'times' }, told.forward && told.forward[at] !== null ? (told.forward[at] < 0.5 ? ' ← ' : ' → ') : ' × '), isolated(labelOf(b))];
  const cells = columns.map((name) => cellOf(name, told, at));
  return make('tr', { 'data-at': at, tabindex: at ? -1 : 0, onclick: () => openRow(at), onkeydown: (event) => rowKey(event, at) },
    make('td', { class: 'rank' }, counted(at + 1)), make('th', { scope: 'row', title: own ? labelOf(partner) : `${labelOf(a)} × ${labelOf(b)}` }, ...names), ...cells);
}

function cellOf(name, told, at) {
  const value = told[name] ? told[name][at] : null;
  if (name === 'score') {
    const bar = make('i', { 'aria-hidden': 'true' }, make('b'));
    bar.firstChild.style.width = `${100 * (value || 0)}%`;
    return make('td', {}, make('span', { class: 'gauge' }, inWords(value), bar));
  }
  if (name === 'kind') return make('td', { class: 'kind' }, kindMark(config.kindNames[value]));
  if (name === 'label') return make('td', { class: 'muted' }, knownInWords(value));
  if (name === 'forward') return make('td', { class: 'muted' }, value === null ? '–' : `${labelOf(value < 0.5 ? told.b[at] : told.a[at])} →`);
  return make('td', { class: 'figure' }, (name === 'correlation' ? signedInWords : smallInWords)(value));
}

function kindMark(kind) {
  if (!kind || kind === 'none') return '–';
  const dot = make('i', { class: 'dot', 'aria-hidden': 'true' });
  dot.style.background = config.look.kinds[kind] || 'currentColor';
  return make('span', {}, dot, kind);
}

function openRow(at, how = {}) {
  const [a, b] = [shown.rows.a[at], shown.rows.b[at]];
  const turned = state.gene === b;
  go({ a: turned ? b : a, b: turned ? a : b }, how);
  if (!how.replace && matchMedia('(max-width: 900px)').matches) byId('pair').scrollIntoView({ behavior: 'smooth' });
}

function rowKey(event, at) {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    openRow(at);
  } else if (step && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    const rows = byId('pairs').tBodies[0].rows;
    const next = Math.max(0, Math.min(rows.length - 1, at + step));
    rows[next].focus();
    openRow(next, { replace: true });
  }
}

function markRow() {
  if (!shown.rows) return;
  const open = shown.rows.a.findIndex((a, at) => (a === state.a && shown.rows.b[at] === state.b) || (a === state.b && shown.rows.b[at] === state.a));
  for (const [at, row] of [...byId('pairs').tBodies[0].rows].entries()) {
    row.classList.toggle('open', at === open);
    if (at === open) row.setAttribute('aria-current', 'true'); else row.removeAttribute('aria-current');
    row.tabIndex = at === Math.max(open, 0) ? 0 : -1;
  }
}

function drawSaves() {
  const saves = byId('saves');
  const formats = source.formats('list').filter((format) => format !== 'gmt' || state.gene !== null);
  const most = Math.min(shown.total, 100000);
  const press = (format) => saveButton(format === 'graphml' ? 'GraphML' : format.toUpperCase(), () => source.save(format, 'list', wanted(), state.partners));
  saves.replaceChildren(...(shown.total ? [`Save ${most < shown.total ? 'the best ' : ''}${counted(most)} pairs `, ...formats.map(press)] : []));
}

// ---------------------------------------------------------------- filters

function drawConditions() {
  const has = (name) => config.columns.includes(name);
  const set = (name) => (event) => go({ [name]: event.target.value.trim() });
  const number = (name, words, step) => field(words, make('input', { type: 'number', min: 0, max: 1, step, value: state[name], placeholder: 'any', inputmode: 'decimal', 'data-name': name, onchange: set(name) }));
  const choice = (name, words, options) => field(words, make('select', { 'data-name': name, onchange: set(name) }, ...options.map(([value, text]) => make('option', { value, selected: state[name] === value }, text))));
  const parts = [number('min_score', 'Score from', 0.05)];
  if (has('q_value')) parts.push(number('max_q', 'q-value up to', 0.01));
  if (has('correlation')) parts.push(choice('sign', 'Sign', [['', 'any'], ['+', 'rising (+)'], ['-', 'falling (−)']]));
  if (has('label')) parts.push(choice('known', 'Pairs', [['', 'all'], ['new', 'new'], ['known', 'known']]));
  if (config.groups.length) parts.push(choice('group', 'Cells', config.groups.map((group, at) => [group === COMBINED ? '' : group, group === COMBINED ? 'all groups combined' : `${group}${config.cells[at] ? ` (${counted(config.cells[at])})` : ''}`])));
  if (config.kinds.length && has('kind')) parts.push(kindChoice());
  const inside = byId('conditions').contains(document.activeElement) ? document.activeElement.dataset.name : null;
  byId('conditions').replaceChildren(...parts);
  if (inside) byId('conditions').querySelector(`[data-name="${inside}"]`)?.focus();
  const narrowed = CONDITIONS.filter((name) => state[name]);
  const clear = make('button', { type: 'button', class: 'plain', onclick: (event) => { event.preventDefault(); go(Object.fromEntries(narrowed.map((name) => [name, '']))); } }, 'clear');
  byId('narrowed').replaceChildren(...(narrowed.length ? [narrowed.map(conditionWords).join(' · '), ' ', clear] : []));
}

const field = (words, input) => make('label', {}, make('span', {}, words), input);
const conditionWords = (name) => ({ group: () => state.group, min_score: () => `score ≥ ${state.min_score}`, max_q: () => `q ≤ ${state.max_q}`, kind: () => state.kind.split(',').join(', '), sign: () => (state.sign === '+' ? 'rising' : 'falling'), known: () => state.known })[name]();

function kindChoice() {
  const chosen = state.kind.split(',').filter(Boolean);
  const press = (kind) => go({ kind: config.kinds.filter((each) => (each === kind) !== chosen.includes(each)).join(',') });
  return make('div', { class: 'kinds', role: 'group', 'aria-label': 'Kinds of dependence' }, ...config.kinds.map((kind) =>
    make('button', { type: 'button', 'data-name': `kind-${kind}`, 'aria-pressed': chosen.includes(kind), onclick: () => press(kind) }, kindMark(kind))));
}

// ---------------------------------------------------------------- a pair

async function drawPair() {
  byId('pair').hidden = state.a === null;
  if (state.a === null) {
    asked.pair = ''; // what is still on its way is not drawn
    return;
  }
  const now = JSON.stringify([state.a, state.b, state.group]);
  if (asked.pair === now) return drawPicture();
  asked.pair = now;
  shown.picture = shown.told = null;
  const { a, b, group } = state;
  const walk = (gene) => make('button', { type: 'button', class: 'plain gene', title: 'show the partners of this gene', onclick: () => go({ gene, a: null, b: null }) }, isolated(labelOf(gene)));
  byId('title').replaceChildren(walk(a), make('span', { class: 'times' }, ' × '), walk(b));
  byId('pictures').setAttribute('aria-busy', 'true');
  const both = await Promise.allSettled([source.pair(a, b, group), config.pictures ? source.picture(a, b) : Promise.reject(new Error(config.missing))]);
  if (asked.pair !== now) return;
  byId('pictures').removeAttribute('aria-busy');
  [shown.told, shown.picture] = both.map((each) => (each.status === 'fulfilled' ? each.value : null));
  drawFacts(both[0]);
  if (shown.picture) {
    shown.picture.most = Math.max(shown.picture.counts[0].reduce((sum, count) => sum + count, 0), 2);
    drawPicture();
  } else {
    byId('pictures').replaceChildren(make('p', { class: 'message' }, both[1].reason.message));
    for (const id of ['views', 'picture-saves', 'reading']) byId(id).replaceChildren();
  }
}

const groupAt = (told) => Math.max(0, told.groups.indexOf(state.group || (config.groups.includes(COMBINED) ? COMBINED : told.groups[0])));

function drawFacts(answer) {
  const facts = byId('facts');
  byId('rest').hidden = true;
  if (answer.status !== 'fulfilled') {
    facts.replaceChildren(make('p', { class: 'message' }, answer.reason.message));
    return;
  }
  const told = answer.value;
  const at = groupAt(told);
  const said = { kind: (v) => kindMark(config.kindNames[v]), correlation: signedInWords, q_value: smallInWords, label: knownInWords, rank_stability: smallInWords,
    forward: (v) => (v === null ? '–' : v < 0.5 ? `${labelOf(told.b[at])} → ${labelOf(told.a[at])}` : `${labelOf(told.a[at])} → ${labelOf(told.b[at])}`) };
  const entry = (term, value) => make('div', {}, make('dt', {}, term), make('dd', {}, value));
  facts.replaceChildren(entry('score', inWords(told.score[at])), ...config.columns.map((name) => entry(HEADS[name][0].toLowerCase(), said[name](told[name][at]))));
  const more = Object.entries(told.more).filter(([, value]) => value !== null);
  byId('rest').hidden = !more.length;
  byId('rest').querySelector('dl').replaceChildren(...more.map(([name, value]) => entry(name.replaceAll('_', ' '), typeof value === 'number' ? String(Number(value.toPrecision(4))) : String(value))));
  if (told.said) facts.append(make('p', { class: 'message' }, told.said));
}

/* Panels: of one group of cells every view; of several groups one view, on the same axes and colours. */
function panelsOf(palette) {
  const { picture, told } = shown;
  const names = [labelOf(state.a), labelOf(state.b)];
  const views = Object.keys(VIEWS).filter((view) => view !== 'cells' || picture.bin_a.length);
  const cells = picture.counts.map((counts) => counts.reduce((sum, count) => sum + count, 0));
  const bins = binsFor(picture, cells[0]);
  if (picture.names.length === 1) return views.map((view) => [view, 0, bins, panel(picture, 0, view, bins, names, VIEWS[view], palette)]);
  const view = views.includes(state.view) ? state.view : 'density';
  const many = binsFor(picture, Math.min(...cells.filter((count) => count > 0)));
  return picture.names.slice(0, MOST_PANELS).map((name, at) => {
    const row = told ? told.groups.indexOf(name || COMBINED) : -1;
    const score = row >= 0 ? ` · ${inWords(told.score[row])}` : '';
    return [view, at, many, panel(picture, at, view, many, names, `${clipped(name || 'all groups', 18)} (${counted(cells[at])})${score}`, palette)];
  });
}

const binsFor = (picture, cells) => Object.entries(POOLED).reduce((bins, [most, few]) => (cells < Number(most) && picture.bins % few === 0 ? Math.min(bins, few) : bins), picture.bins);

function drawPicture() {
  const { picture } = shown;
  if (!picture) return;
  const panels = panelsOf(SCREEN);
  const names = [labelOf(state.a), labelOf(state.b)];
  const grouped = picture.names.length > 1;
  byId('pictures').replaceChildren(
    make('div', { class: grouped ? 'panels small-multiples' : 'panels' }, ...panels.map(([view, at, bins, drawn]) => {
      drawn.addEventListener('pointermove', (event) => { byId('reading').textContent = view === 'cells' ? '' : readBin(event, drawn, picture, at, bins, names); });
      return drawn;
    })),
    make('div', { class: 'scales' }, ...[...new Set(panels.map(([view]) => view))].filter((view) => view !== 'cells').map((view) => scaleOf(view, picture.most, SCREEN))));
  byId('reading').textContent = readingWords(picture, panels);
  const views = Object.keys(VIEWS).filter((view) => grouped && (view !== 'cells' || picture.bin_a.length));
  byId('views').replaceChildren(...views.map((view) => make('button', { type: 'button', 'aria-pressed': state.view === view, onclick: () => go({ view }, { replace: true }) }, VIEWS[view])));
  const name = `${nameOf(state.a)}-${nameOf(state.b)}`.replace(/[^\w.-]+/g, '_').slice(0, 80);
  const whole = () => {
    const printed = panelsOf(PRINT);
    const scaled = printed.find(([view]) => view !== 'cells');
    return joined(printed.map((each) => each[3]), Math.min(4, printed.length), scaled && grouped ? scaleOf(scaled[0], picture.most, PRINT) : null);
  };
  byId('picture-saves').replaceChildren('Save the picture ', saveButton('SVG', () => saveSvg(whole(), `${name}.svg`)), saveButton('PNG', () => savePng(whole(), `${name}.png`)));
}

function readingWords(picture, panels) {
  const bins = panels[0][2];
  const words = [`Each square counts the cells of one of ${bins} × ${bins} bins; bars beside it count them by one gene alone, logarithmic.`];
  if (panels.some(([view]) => view === 'cells')) words.push('Single cells lie at random within their bin.');
  if (config.within.length) words.push(`The score compares cells within ${config.within.join(', ')}; these pictures do not.`);
  if (picture.names.length > 1) words.push('Above each panel: the group, its cells, and the score of the pair there. All groups together are compared within each, as in their score.');
  if (picture.names.length > MOST_PANELS) words.push(`The first ${MOST_PANELS} of ${picture.names.length} groups are drawn.`);
  if (config.missing) words.push(config.missing);
  return words.join(' ');
}

const saveButton = (word, save) => make('button', { type: 'button', class: 'plain', onclick: async () => { try { await save(); } catch (error) { say(error.message, true); } } }, word);

// ---------------------------------------------------------------- around a gene

async function drawAround() {
  const centre = state.gene !== null ? state.gene : state.a;
  byId('around').hidden = centre === null;
  if (centre === null) {
    asked.network = '';
    return;
  }
  const around = { ...wanted(), gene: centre };
  const now = JSON.stringify([around, state.partners]);
  if (asked.network === now) return;
  asked.network = now;
  byId('around-title').replaceChildren('Around ', isolated(labelOf(centre)));
  byId('sizes').replaceChildren(...[10, 25, 50].map((size) => make('button', { type: 'button', 'aria-pressed': state.partners === size, title: `the best ${size} partners`, onclick: () => go({ partners: size }, { replace: true }) }, String(size))));
  try {
    const told = await source.network(around, state.partners);
    if (asked.network !== now) return;
    const walk = (gene) => go({ gene, a: null, b: null });
    const open = (a, b) => go({ a, b });
    const print = () => drawNetwork(told, centre, PRINT, null, null);
    byId('network').replaceChildren(told.a.length ? drawNetwork(told, centre, SCREEN, walk, open) : make('p', { class: 'message' }, 'No partner meets these filters.'));
    const key = told.a.length ? networkKey(told, centre) : [];
    byId('network-key').replaceChildren(...key.map(([words, colour]) => { const dot = make('i', { class: words.startsWith('module') ? 'dot' : 'dash', 'aria-hidden': 'true' }); dot.style.background = colour; return make('span', {}, dot, words); }),
      ...(key.length ? [make('span', {}, 'all best partners, and the best pairs among them; press a gene to walk on, a line to see the pair')] : []));
    const name = nameOf(centre).replace(/[^\w.-]+/g, '_').slice(0, 60);
    const files = source.formats('network').map((format) => saveButton(format === 'graphml' ? 'GraphML' : format.toUpperCase(), () => source.save(format, 'network', around, state.partners)));
    byId('network-saves').replaceChildren(...(told.a.length ? ['Save the network ', saveButton('SVG', () => saveSvg(print(), `around-${name}.svg`)), saveButton('PNG', () => savePng(print(), `around-${name}.png`)), ...files] : []));
  } catch (error) {
    if (asked.network !== now) return;
    asked.network = '';
    byId('network').replaceChildren(make('p', { class: 'message wrong' }, error.message));
    for (const id of ['network-key', 'network-saves']) byId(id).replaceChildren();
  }
}
