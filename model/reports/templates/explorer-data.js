/* Where answers come from: the server that sent the page, or the page itself. Both answer the same four questions:
   pairs(wanted, from, count, sort, rising), pair(a, b, group), picture(a, b), network(wanted, partners). */

const config = JSON.parse(document.getElementById('config').textContent);
const COMBINED = 'combined';

function query(asked) {
  const parts = new URLSearchParams();
  const token = new URLSearchParams(location.search).get('token');
  if (token) parts.set('token', token);
  for (const [name, value] of Object.entries(asked)) {
    if (value !== null && value !== undefined && value !== '' && value !== false) parts.set(name, value === true ? '1' : value);
  }
  return parts.toString();
}

class Served {
  async fetched(path, asked) {
    try {
      return await fetch(path + '?' + query(asked));
    } catch (error) {
      throw new Error('The explorer does not answer: is pairscape browse still running?');
    }
  }
  async ask(path, asked) {
    const answer = await this.fetched(path, asked);
    const text = await answer.text();
    let told;
    try {
      told = JSON.parse(text);
    } catch (error) {
      throw new Error(text.trim() || `no answer (${answer.status})`);
    }
    if (told.error) throw new Error(told.error);
    return told;
  }
  pairs(wanted, from, count, sort, rising) {
    return this.ask('pairs', { ...wanted, from, count, sort, rising });
  }
  pair(a, b, group) {
    return this.ask('pair', { a, b, group });
  }
  async picture(a, b) {
    const told = await this.ask('picture', { a, b });
    const size = told.bins * told.bins;
    const all = new Int32Array(bytesOf(told.counts).buffer);
    return {
      ...told,
      counts: told.names.map((_, at) => all.subarray(at * size, (at + 1) * size)),
      bin_a: bytesOf(told.bin_a), bin_b: bytesOf(told.bin_b), group: new Uint16Array(bytesOf(told.group).buffer),
    };
  }
  network(wanted, partners) {
    return this.ask('network', { ...wanted, partners });
  }
  formats(what) {
    return what === 'network' ? ['csv', 'graphml'] : ['csv', 'gmt', 'graphml'];
  }
  async save(format, what, wanted, partners) {
    const answer = await this.fetched('save', { ...wanted, format, what, partners });
    if (!answer.ok) throw new Error(JSON.parse(await answer.text()).error);
    const name = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get('Content-Disposition') || '');
    saveBlob(await answer.blob(), name ? decodeURIComponent(name[1]) : `pairs.${format}`);
  }
}

/* What a page holds that was saved: pairs as columns by group, best first, and their counts, packed. */
class Saved {
  constructor(held) {
    this.held = held;
    this.place = new Map();
    const first = held.groups[config.groups.length ? this.whole() : ''];
    first.a.forEach((a, at) => this.place.set(this.key(a, first.b[at]), at));
  }
  whole() {
    return config.groups.includes(COMBINED) ? COMBINED : config.groups[0];
  }
  key(a, b) {
    return Math.min(a, b) * config.labels.length + Math.max(a, b);
  }
  passing(wanted) {
    const t = this.held.groups[wanted.group || (config.groups.length ? this.whole() : '')];
    const kinds = wanted.kind ? wanted.kind.split(',').map((kind) => config.kindNames.indexOf(kind)) : null;
    const rows = [];
    for (let row = 0; row < t.a.length; row++) {
      if (wanted.gene !== null && wanted.gene !== undefined && t.a[row] !== wanted.gene && t.b[row] !== wanted.gene) continue;
      if (wanted.min_score && !(t.score[row] !== null && t.score[row] >= wanted.min_score)) continue;
      if (wanted.max_q && !(t.q_value[row] !== null && t.q_value[row] <= wanted.max_q)) continue;
      if (kinds && !kinds.includes(t.kind[row])) continue;
      if (wanted.sign && Math.sign(t.correlation[row]) !== (wanted.sign === '+' ? 1 : -1)) continue;
      if (wanted.known && (t.label[row] > 0) !== (wanted.known === 'known')) continue;
      rows.push(row);
    }
    return [t, rows];
  }
  told(t, rows) {
    return Object.fromEntries(Object.entries(t).filter(([, values]) => Array.isArray(values)).map(([name, values]) => [name, rows.map((row) => values[row])]));
  }
  async pairs(wanted, from, count, sort, rising) {
    const [t, rows] = this.passing(wanted);
    const known = (row) => (t[sort][row] === null ? -Infinity : t[sort][row] * (rising ? -1 : 1));
    if (sort !== 'score' || rising) rows.sort((x, y) => known(y) - known(x) || x - y);
    return { total: rows.length, from, ...this.told(t, rows.slice(from, from + count)) };
  }
  async pair(a, b) {
    const groups = [];
    const told = {};
    for (const [name, t] of Object.entries(this.held.groups)) {
      const row = t.a.findIndex((x, at) => this.key(x, t.b[at]) === this.key(a, b));
      if (row < 0) continue;
      groups.push(name);
      for (const [column, values] of Object.entries(t)) (told[column] ||= []).push(values[row]);
    }
    if (!groups.length) throw new Error(`${config.labels[a]} and ${config.labels[b]} are not among the pairs of this page.`);
    return { groups, ...told, more: {}, said: '' };
  }
  async picture(a, b) {
    const at = this.place.get(this.key(a, b));
    if (at === undefined) throw new Error('This page holds no picture of that pair.');
    this.counts ||= await this.unpack();
    const { bins, names, ends } = this.held.pictures;
    const size = bins * bins;
    const first = this.held.groups[config.groups.length ? this.whole() : ''];
    const turned = first.a[at] !== a;
    const counts = names.map((_, m) => {
      const own = this.counts.subarray((at * names.length + m) * size, (at * names.length + m + 1) * size);
      return turned ? own.map((_, i) => own[(i % bins) * bins + Math.floor(i / bins)]) : own;
    });
    return { bins, names, counts, ends: [ends[a], ends[b]], bin_a: [], bin_b: [], group: [] };
  }
  async unpack() {
    const { counts, bytes } = this.held.pictures;
    const stream = new Blob([bytesOf(counts)]).stream().pipeThrough(new DecompressionStream('deflate'));
    const buffer = await new Response(stream).arrayBuffer();
    return bytes === 2 ? new Uint16Array(buffer) : new Int32Array(buffer);
  }
  async network(wanted, partners) {
    const scored = ({ score }, row) => score[row] !== null;
    const best = await this.pairs(wanted, 0, partners, 'score', false);
    const own = this.told(best, best.a.map((_, row) => row).filter((row) => scored(best, row)));
    const inside = new Set([...own.a, ...own.b]);
    inside.delete(wanted.gene);
    const [t, rows] = this.passing({ ...wanted, gene: null });
    const among = this.told(t, rows.filter((row) => scored(t, row) && inside.has(t.a[row]) && inside.has(t.b[row])).slice(0, 2 * partners));
    return Object.fromEntries(Object.keys(t).map((name) => [name, [...own[name], ...among[name]]]));
  }
  formats(what) {
    return what === 'network' ? [] : ['csv'];
  }
  save(format, what, wanted) {
    const [t, rows] = this.passing(wanted);
    const names = ['gene_a', 'gene_b', 'score', ...config.columns];
    const value = { gene_a: (row) => tame(config.ids[t.a[row]]), gene_b: (row) => tame(config.ids[t.b[row]]),
      kind: (row) => config.kindNames[t.kind[row]] || '' };
    const lines = rows.map((row) => names.map((name) => quoted(value[name] ? value[name](row) : t[name][row])).join(','));
    saveText([names.join(','), ...lines].join('\n') + '\n', 'pairs.csv', 'text/csv');
  }
}

const tame = (text) => (/^[=+\-@\t\r]/.test(text) ? "'" + text : text);
const quoted = (value) => {
  const text = value === null ? '' : String(value);
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
};

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

function download(address, name) {
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

const saveText = (text, name, type) => saveBlob(new Blob([text], { type }), name);

function saveBlob(blob, name) {
  const address = URL.createObjectURL(blob);
  download(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const source = config.saved ? new Saved(config.saved) : new Served();
