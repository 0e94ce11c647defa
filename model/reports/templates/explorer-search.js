/* Finding a gene as it is typed; keys; and the beginning of everything. */

const search = byId('search');
const found = byId('found');
let matches = [];
let marked = -1;

function complete() {
  const text = search.value.trim().toLowerCase();
  matches = [];
  if (text) {
    const ranked = [[], [], []];
    for (let gene = 0; gene < folded.length && ranked[0].length < MOST_FOUND; gene++) {
      const at = folded[gene].indexOf(text);
      if (at < 0) continue;
      const begins = at === 0 || folded[gene][at - 1] === '\n';
      const whole = begins && [undefined, '\n'].includes(folded[gene][at + text.length]);
      const held = ranked[whole ? 0 : begins ? 1 : 2];
      if (whole || held.length < 400) held.push(gene);
    }
    const shortest = (x, y) => labelOf(x).length - labelOf(y).length || labelOf(x).localeCompare(labelOf(y));
    matches = ranked.flatMap((genes) => genes.sort(shortest)).slice(0, MOST_FOUND);
  }
  marked = matches.length ? 0 : -1;
  found.replaceChildren(...matches.map((gene, at) => make('li', { role: 'option', id: `found-${at}`, onpointerdown: (event) => { event.preventDefault(); take(gene); } },
    isolated(labelOf(gene)), config.ids[gene] !== labelOf(gene) ? make('small', {}, clipped(config.ids[gene], 40)) : null)));
  found.hidden = !matches.length;
  search.setAttribute('aria-expanded', String(!!matches.length));
  mark();
  if (text && !matches.length) say(`No gene of this file has ${clipped(search.value.trim(), 40)} in its name.`, true);
  else if (byId('message').classList.contains('wrong')) say('');
}

function mark() {
  for (const [at, option] of [...found.children].entries()) {
    option.setAttribute('aria-selected', String(at === marked));
    if (at === marked) option.scrollIntoView({ block: 'nearest' });
  }
  if (marked >= 0) search.setAttribute('aria-activedescendant', `found-${marked}`);
  else search.removeAttribute('aria-activedescendant');
}

function take(gene) {
  search.value = '';
  closeFound();
  go({ gene, a: null, b: null });
}

function closeFound() {
  found.hidden = true;
  search.setAttribute('aria-expanded', 'false');
}

search.addEventListener('input', complete);
search.addEventListener('blur', closeFound);
search.addEventListener('keydown', (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && matches.length) {
    event.preventDefault();
    marked = (marked + step + matches.length) % matches.length;
    mark();
  } else if (event.key === 'Enter' && search.value.trim()) {
    const exact = numberOf(search.value.trim());
    if (marked > 0 || exact === null) { if (marked >= 0) take(matches[marked]); else complete(); } else take(exact);
  } else if (event.key === 'Escape') {
    search.value = '';
    complete();
    search.blur();
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    search.focus();
  }
});

byId('more').addEventListener('click', async () => {
  const now = asked.list;
  const from = shown.rows.a.length;
  try {
    const told = await source.pairs(wanted(), from, AT_ONCE, state.sort, state.rising);
    if (asked.list !== now) return;
    for (const [name, values] of Object.entries(shown.rows)) if (Array.isArray(values)) values.push(...told[name]);
    fillTable(from);
    markRow();
  } catch (error) {
    say(error.message, true);
  }
});
window.addEventListener('popstate', () => { [state] = readAddress(); draw(); });
window.addEventListener('hashchange', () => { if (config.saved) { [state] = readAddress(); draw(); } });

// ---------------------------------------------------------------- the beginning

byId('name').textContent = config.name;
byId('about').textContent = [`${counted(config.n_pairs)} pairs${config.saved ? ` of ${counted(config.saved.of)}, the best` : ''}`, `${counted(config.labels.length)} genes`,
  config.n_cells ? `${counted(config.n_cells)} cells` : '', config.groups.length ? `${config.groups.filter((group) => group !== COMBINED).length} groups` : ''].filter(Boolean).join(' · ');
byId('footer').textContent = config.saved ? 'A page of pairscape browse --export; it holds all that it shows.' : 'The address of this page holds what it shows: send it, or keep it. Press / to search, arrows to walk through the list.';
byId('filters').open = matchMedia('(min-width: 901px)').matches;
const [begun, wrong] = readAddress();
state = begun;
draw();
if (wrong.length) setTimeout(() => say(`This file has no ${wrong.map((name) => clipped(name, 40)).join(', ')}; what is left of the link is shown.`, true), 400);
