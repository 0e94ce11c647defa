/* A small network: a gene in the middle, its partners around it, laid out by their distances in the graph. The layout
   starts from a circle in order of score and has no chance in it, so a link shows everybody the same picture. */

const NET = { width: 640, height: 460, pad: 58 };
const STRONGEST = 1.9; // width of the line of a sure edge
const MODULE_COLOURS = ['#0072b2', '#d55e00', '#009e73', '#b8578f', '#d99000', '#3a9bdc', '#7a8b2a', '#8c613c'];

function graphOf(told, centre) {
  const nodes = [centre];
  const at = new Map([[centre, 0]]);
  const edges = told.a.map((a, row) => {
    for (const gene of [a, told.b[row]]) if (!at.has(gene)) { at.set(gene, nodes.length); nodes.push(gene); }
    return { row, a: at.get(a), b: at.get(told.b[row]), score: told.score[row] || 0,
      kind: told.kind ? config.kindNames[told.kind[row]] : undefined,
      correlation: told.correlation ? told.correlation[row] : null,
      forward: config.directed && told.forward ? told.forward[row] >= 0.5 : null };
  });
  return { nodes, edges };
}

function distances(count, edges) {
  const near = Array.from({ length: count }, () => []);
  edges.forEach(({ a, b }) => { near[a].push(b); near[b].push(a); });
  return near.map((_, from) => {
    const far = new Array(count).fill(3);
    far[from] = 0;
    for (let queue = [from]; queue.length;) {
      const one = queue.shift();
      for (const other of near[one]) if (other !== from && far[one] + 1 < far[other]) { far[other] = far[one] + 1; queue.push(other); }
    }
    return far;
  });
}

/* Stress majorization: places whose distances are as near as can be to those in the graph. */
function layOut({ nodes, edges }) {
  const n = nodes.length;
  const far = distances(n, edges);
  let x = nodes.map((_, i) => (i ? Math.cos((2 * Math.PI * i) / (n - 1)) : 0));
  let y = nodes.map((_, i) => (i ? Math.sin((2 * Math.PI * i) / (n - 1)) : 0));
  for (let round = 0; round < 160; round++) {
    const nextX = x.slice();
    const nextY = y.slice();
    for (let i = 1; i < n; i++) {
      let sumX = 0, sumY = 0, weights = 0;
      for (let j = 0; j < n; j++) {
        if (i === j) continue;
        const apart = Math.hypot(x[i] - x[j], y[i] - y[j]) || 1e-6;
        const wanted = Math.sqrt(far[i][j]) * (j ? 1 : 1.15);
        const weight = 1 / (wanted * wanted);
        sumX += weight * (x[j] + (wanted * (x[i] - x[j])) / apart);
        sumY += weight * (y[j] + (wanted * (y[i] - y[j])) / apart);
        weights += weight;
      }
      nextX[i] = sumX / weights;
      nextY[i] = sumY / weights;
    }
    x = nextX;
    y = nextY;
  }
  const span = (values) => [Math.min(...values), Math.max(...values)];
  const [[left, right], [low, high]] = [span(x), span(y)];
  const fit = (value, from, to, size, pad) => pad + ((value - from) / Math.max(to - from, 1e-6)) * (size - 2 * pad);
  if (n === 1) return { x: [NET.width / 2], y: [NET.height / 2] };
  return { x: x.map((v) => fit(v, left, right, NET.width, NET.pad)), y: y.map((v) => (high - low < 1e-6 ? NET.height / 2 : fit(v, low, high, NET.height, 34))) };
}

function lookOf(edge) {
  const { kinds, positive, negative } = config.look;
  if (edge.kind && kinds[edge.kind]) return [edge.kind, kinds[edge.kind]];
  return edge.correlation !== null && edge.correlation < 0 ? ['correlation below 0', negative] : ['correlation above 0', positive];
}

const moduleColour = (gene) => {
  const module = config.modules[gene];
  return module > 0 ? MODULE_COLOURS[(module - 1) % MODULE_COLOURS.length] : null;
};

/* Where each label covers least of what is drawn already. */
function placeLabels(nodes, at) {
  const taken = nodes.map((_, i) => [at.x[i] - 6, at.y[i] - 6, at.x[i] + 6, at.y[i] + 6]);
  return nodes.map((gene, i) => {
    const width = 6.6 * Math.min(config.labels[gene].length, 18) + (i ? 0 : 6);
    const [x, y] = [at.x[i], at.y[i]];
    const choices = [['middle', x, y - 11], ['middle', x, y + 20], ['start', x + 10, y + 4], ['end', x - 10, y + 4]].map(([anchor, tx, ty]) => {
      const left = anchor === 'middle' ? tx - width / 2 : anchor === 'start' ? tx : tx - width;
      return { anchor, x: tx, y: ty, box: [left, ty - 11, left + width, ty + 3] };
    });
    const cost = ({ box }) => taken.reduce((sum, b, j) => j === i ? sum : sum
      + Math.max(0, Math.min(box[2], b[2]) - Math.max(box[0], b[0])) * Math.max(0, Math.min(box[3], b[3]) - Math.max(box[1], b[1])), 0)
      + (box[0] < 0 || box[2] > NET.width || box[1] < 0 || box[3] > NET.height ? 500 : 0);
    const best = choices.reduce((one, other) => (cost(other) < cost(one) ? other : one));
    taken.push(best.box);
    return best;
  });
}

function drawNetwork(told, centre, palette, walk, open) {
  const graph = graphOf(told, centre);
  const at = layOut(graph);
  const labels = placeLabels(graph.nodes, at);
  const lines = graph.edges.map((edge) => {
    const [words, colour] = lookOf(edge);
    const [from, to] = edge.forward === false ? [edge.b, edge.a] : [edge.a, edge.b];
    const line = svg('line', { x1: at.x[from].toFixed(1), y1: at.y[from].toFixed(1), x2: at.x[to].toFixed(1), y2: at.y[to].toFixed(1),
      stroke: colour, 'stroke-width': (0.5 + STRONGEST * edge.score).toFixed(2), 'stroke-opacity': edge.a && edge.b ? 0.45 : 0.85,
      ...(edge.forward === null ? {} : { 'marker-end': 'url(#arrow)' }) });
    const names = `${config.labels[graph.nodes[from]]} ${edge.forward === null ? '–' : '→'} ${config.labels[graph.nodes[to]]}`;
    line.append(svg('title', {}, `${names}: score ${inWords(edge.score)}, ${words}`));
    if (open) {
      line.classList.add('edge');
      line.addEventListener('click', () => open(graph.nodes[edge.a], graph.nodes[edge.b]));
    }
    return line;
  });
  const dots = graph.nodes.map((gene, i) => {
    const group = svg('g', walk && i ? { tabindex: 0, role: 'button', class: 'node', 'aria-label': `walk to ${config.labels[gene]}` } : {},
      svg('circle', { cx: at.x[i].toFixed(1), cy: at.y[i].toFixed(1), r: i ? 6 : 9, fill: moduleColour(gene) || (i ? palette.muted : palette.ink), stroke: palette.paper, 'stroke-width': 1.5 }),
      svg('text', { x: labels[i].x.toFixed(1), y: labels[i].y.toFixed(1), 'text-anchor': labels[i].anchor, fill: palette.ink, stroke: palette.paper, 'stroke-width': 3,
        'paint-order': 'stroke', 'font-size': i ? 12 : 14, 'font-weight': i ? 400 : 650, 'font-family': FONT }, clipped(config.labels[gene], 18)));
    if (config.modules[gene]) group.append(svg('title', {}, `${config.labels[gene]}, module ${config.modules[gene]}`));
    if (walk && i) {
      group.addEventListener('click', () => walk(gene));
      group.addEventListener('keydown', (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); walk(gene); } });
    }
    return group;
  });
  const arrow = svg('marker', { id: 'arrow', viewBox: '0 0 8 8', refX: 14, refY: 4, markerWidth: 5, markerHeight: 5, orient: 'auto', markerUnits: 'userSpaceOnUse' },
    svg('path', { d: 'M0 0 L8 4 L0 8 z', fill: palette.muted }));
  return svg('svg', { xmlns: SVG, viewBox: `0 0 ${NET.width} ${NET.height}`, width: NET.width, height: NET.height,
    'aria-label': `Network of ${config.labels[centre]} and ${graph.nodes.length - 1} partners; the same pairs stand in the list.` },
  svg('defs', {}, arrow), ...(palette === PRINT ? [svg('rect', { width: NET.width, height: NET.height, fill: palette.paper })] : []), ...lines.reverse(), ...dots.reverse());
}

/* The colours that are there, explained. */
function networkKey(told, centre) {
  const looks = new Map(graphOf(told, centre).edges.map(lookOf));
  const modules = [...new Set(graphOf(told, centre).nodes.map((gene) => config.modules[gene]).filter((module) => module > 0))].sort((a, b) => a - b);
  return [...looks, ...modules.slice(0, 8).map((module) => [`module ${module}`, MODULE_COLOURS[(module - 1) % MODULE_COLOURS.length]])];
}
