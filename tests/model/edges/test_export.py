"""Each export opens in the tool that owns the format and holds exactly the wanted edges; mistakes are refused."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from anndata.io import write_elem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pairscape.model.edges import edges, export, formats
from pairscape.model.edges.edges import choose_each, choose_edges, rank_within
from pairscape.model.edges.export import FORMATS, export_scores
from pairscape.model.edges.formats import CORRELATION, SCORE
from pairscape.model.edges.scores import ALWAYS, read_scores, write_scores
from pairscape.model.edges.tally import tally_scores
from pairscape.model.options import EdgeChoice
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from typed import run_command

GENES = [f"G{i}" for i in range(9)]
ALL = EdgeChoice(threshold=0)
FACTS = {
    "model": {"run": "runs/first"},
    "matrix": {"path": "data/spleen.zarr"},
    "prior": 0.02,
    "thresholds": {"precision 0.5": 0.4, "precision 0.9": 0.8, "precision 0.99": None},
}


def table(rows, genes=GENES, seed=0, directed=False):
    """Distinct ordered pairs with scores of two digits (so that some tie), a fifth of them screened out."""
    rng = np.random.default_rng(seed)
    a, b = np.divmod(rng.permutation(len(genes) ** 2), len(genes))
    a, b = (x[a != b][:rows] for x in (a, b))
    out = rng.random(a.size) < 0.2
    columns = {
        "gene_a": np.array(genes, object)[a],
        "gene_b": np.array(genes, object)[b],
        "label": rng.integers(-1, 2, a.size).astype(np.int8),
        "score": pa.array(rng.integers(1, 99, a.size) / np.float32(100), pa.float32(), mask=out),
        "dependence": rng.random(a.size).astype(np.float32),
        "correlation": rng.uniform(-1, 1, a.size).astype(np.float32),
        "q_value": pa.array(rng.random(a.size).astype(np.float32), mask=out),
    }
    if directed:
        columns["forward"] = pa.array(rng.random(a.size).astype(np.float32), mask=out)
    return pa.table(columns)


def write(path, found, facts=FACTS, parts=3):
    step = -(-found.num_rows // parts)
    write_scores(path, [found[i : i + step] for i in range(0, found.num_rows, step)], found.column_names, facts)
    return path


@pytest.fixture
def scores(tmp_path):
    return write(tmp_path / "scores.parquet", table(50))


def expected(path, wanted):
    """The same choice, row by row with pandas: the oracle."""
    frame = read_scores(path).to_pandas().astype({"gene_a": str, "gene_b": str})
    least = 0.5 if wanted.max_q and not wanted.any_score else 0
    threshold = (
        FACTS["thresholds"][f"precision {wanted.precision:g}"] if wanted.precision else wanted.threshold or least
    )
    frame = frame[frame["score"].astype(float) >= threshold]
    if wanted.max_q is not None:
        frame = frame[frame["q_value"].astype(float) <= wanted.max_q]
    if wanted.new:
        frame = frame[frame["label"] != 1]
    lines = []
    for row in frame.sort_values("score", ascending=False, kind="stable").itertuples():
        ends = (row.gene_a, row.gene_b)
        if "forward" in frame and row.forward < 0.5:
            ends = ends[::-1]
        lines += [(*pair, row.score) for pair in ((ends, ends[::-1]) if wanted.both_directions else (ends,))]
    chosen, of_source = {}, {}
    for source, target, score in lines:
        if (source, target) not in chosen:
            of_source[source] = of_source.get(source, 0) + 1
            chosen[source, target] = (score, of_source[source])
    kept = [
        (*ends, score)
        for ends, (score, rank) in chosen.items()
        if wanted.per_regulator is None or rank <= wanted.per_regulator
    ]
    return kept[: wanted.top and wanted.top * (2 if wanted.both_directions else 1)]


def listed(found):
    return list(zip(found.names(found.source), found.names(found.target), found.weight.tolist(), strict=True))


limits = st.none() | st.integers(1, 12)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 5), rows=st.integers(5, 60), directed=st.booleans(), both=st.booleans(), new=st.booleans(),
    top=limits, per_regulator=limits, threshold=st.none() | st.just(0.31), precise=st.booleans(),
    max_q=st.none() | st.just(0.7), block=st.integers(1, 20), any_score=st.booleans(),
)  # fmt: skip
def test_chosen_edges_are_those_of_the_oracle(
    tmp_path_factory, seed, rows, directed, both, new, top, per_regulator, threshold, precise, max_q, block, any_score
):
    """Whatever is asked for, in blocks of whatever size, over several row groups."""
    path = write(tmp_path_factory.getbasetemp() / "chosen.parquet", table(rows, seed=seed, directed=directed))
    precision = 0.5 if precise and threshold is None else None
    any_score &= max_q is not None
    wanted = EdgeChoice(
        top, per_regulator, threshold, precision, max_q, new, both and not directed, any_score=any_score
    )
    right = expected(path, wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges, "ROWS_AT_ONCE", block)
        if not right:
            with pytest.raises(ValueError, match="none of its pairs is left"):
                choose_edges(path, wanted)
            return
        found = choose_edges(path, wanted, ("correlation", "rank_stability"))
    assert listed(found) == [(a, b, pytest.approx(score, abs=0)) for a, b, score in right]
    known = {
        frozenset((row["gene_a"], row["gene_b"])) | {row["score"], row["correlation"]}
        for row in read_scores(path).to_pylist()
    }
    for (a, b, score), correlation in zip(listed(found), found.columns["correlation"].tolist(), strict=True):
        assert {a, b, score, correlation} in known
    assert "rank_stability" not in found.columns


def test_a_threshold_keeps_its_digits(tmp_path):
    """0.3 in float32 is a little above 0.3: a pair of exactly the threshold is an edge, one a hair below is not."""
    below = np.nextafter(np.float32(0.5), np.float32(0))
    found = table(3).set_column(3, "score", pa.array([0.5, below, 0.9], pa.float32()))
    path = write(tmp_path / "s.parquet", found)
    assert choose_edges(path, EdgeChoice(threshold=0.5)).weight.tolist() == pytest.approx([0.9, 0.5])
    assert len(choose_edges(path, EdgeChoice(threshold=float(below)))) == 3


def test_a_q_value_keeps_no_pair_that_its_score_calls_unlikely(tmp_path, capsys):
    """Three pairs of q 0.01: one is likely, two are not, and that is said; each file says what may be wrong with it."""
    found = table(5).set_column(3, "score", pa.array([0.9, 0.2, 0.4999, 0.99, 0.7], pa.float32()))
    found = found.set_column(6, "q_value", pa.array([0.01, 0.01, 0.01, 0.2, 0.04], pa.float32()))
    path = write(tmp_path / "s.parquet", found)
    assert run_command("export", path, tmp_path / "a.graphml", "--max-q", "0.05") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 edges" in told
    assert "left out: 2 pairs of q ≤ 0.05 that score below one half" in told
    assert "expected to be wrong: 20.00% by their scores at a prior of 0.02, 4.00% by their q-values" in told
    assert nx.read_graphml(tmp_path / "a.graphml").graph["expected_wrong"] in told
    assert run_command("export", path, tmp_path / "b.csv", "--max-q", "0.05", "--any-score") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "4 edges" in told
    assert "left out" not in told
    assert len(choose_edges(path, EdgeChoice(max_q=0.05, threshold=0.3))) == 3  # asked for
    unlikely = found.set_column(3, "score", pa.array(np.full(5, 0.3), pa.float32()))
    assert run_command("export", write(path, unlikely), tmp_path / "c.csv", "--max-q", "0.05") == 2
    assert "4 pairs have that q-value, but all of them a score below one half" in capsys.readouterr().err


def test_a_large_file_is_trimmed_as_it_is_read(tmp_path, monkeypatch):
    """Of many rows no more than are wanted stay in memory, and they are the right ones."""
    path, wanted = write(tmp_path / "s.parquet", table(60)), EdgeChoice(top=3)
    held = []
    monkeypatch.setattr(edges, "ROWS_AT_ONCE", 4)
    whole = edges._joined
    monkeypatch.setattr(
        edges, "_joined", lambda parts: held.append(sum(p["weight"].size for p in parts)) or whole(parts)
    )
    assert listed(choose_edges(path, wanted)) == [(a, b, pytest.approx(s)) for a, b, s in expected(path, wanted)]
    assert max(held) <= 4 * 3 + 4
    assert len(held) > 3


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40), st.integers(1, 45))
def test_the_best_are_the_first_of_a_sort_of_all_ties_in_order(weights, most):
    weight = np.array(weights, np.float32)
    found = edges._best({"weight": weight, "row": np.arange(weight.size)}, most)
    np.testing.assert_array_equal(found["row"], np.argsort(-weight, kind="stable")[:most])


def test_several_choices_of_one_reading_are_those_of_a_reading_each(tmp_path, monkeypatch):
    path = write(tmp_path / "s.parquet", table(60))
    choices = [EdgeChoice(top=7), EdgeChoice(threshold=0.5), EdgeChoice(max_q=0.2), EdgeChoice(threshold=1.0)]
    monkeypatch.setattr(edges, "ROWS_AT_ONCE", 16)
    apart = [listed(choose_edges(path, wanted)) for wanted in choices[:3]]
    read, blocks = [], edges.blocks
    monkeypatch.setattr(edges, "blocks", lambda *given: read.append(given) or blocks(*given))
    *found, none = choose_each(path, choices, ("correlation",))
    assert [listed(some) for some in found] == apart
    assert isinstance(none, InputError)
    assert "none of its pairs is left" in str(none)
    assert len(read) == 1


def test_genes_are_those_of_the_pairs_whatever_the_dictionary_names(tmp_path):
    """A file that `predict` writes names every gene of the matrix in its dictionaries."""
    found, others = table(20), pa.array([f"X{i}" for i in range(50)])
    for at, name in enumerate(("gene_a", "gene_b")):
        named = found[name].combine_chunks().dictionary_encode()
        every = pa.concat_arrays([others, named.dictionary])
        index = pa.array(named.indices.to_numpy() + len(others), pa.int32())
        found = found.set_column(at, name, pa.DictionaryArray.from_arrays(index, every))
    path = write(tmp_path / "s.parquet", found)
    held = pq.read_table(path, read_dictionary=["gene_a"])["gene_a"].chunk(0).dictionary
    assert "X0" in held.to_pylist()
    used = {name for end in ("gene_a", "gene_b") for name in found[end].to_pylist()}
    assert set(choose_edges(path, EdgeChoice()).genes) == used
    assert set(tally_scores(path, {}, 0.5, both_ends=True).genes) == used


def test_rank_within():
    assert rank_within(np.array([4, 2, 4, 4, 2, 9])).tolist() == [0, 0, 1, 2, 1, 0]


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def exported(scores, path, wanted=ALL, **options):
    export_scores(scores, path, wanted, **options)
    return path


def test_without_a_cutoff_edges_end_where_the_report_ends(scores, tmp_path):
    said = []
    path = exported(scores, tmp_path / "a.csv", EdgeChoice(), say=lambda *lines: said.extend(lines))
    assert pd.read_csv(path)["importance"].min() == pytest.approx(0.4)  # precision 0.5, by which the report counts
    assert ["score ≥ 0.4" in line and "--threshold 0" in line for line in said] == [True]
    exported(scores, tmp_path / "b.csv", EdgeChoice(new=True), say=said.append)
    assert pd.read_csv(tmp_path / "b.csv")["importance"].min() >= 0.4


def test_a_ranking_is_whole_without_a_cutoff(scores, tmp_path):
    said = []
    path = exported(scores, tmp_path / "rankedEdges.csv", EdgeChoice(), say=lambda *lines: said.extend(lines))
    assert len(pd.read_csv(path, sep="\t")) == len(expected(scores, ALL))
    assert "every scored pair" in said[0]


@pytest.mark.parametrize("gene", ["G1", "G1, G4", ("G1", "G4")])
def test_pairs_of_a_gene(scores, gene):
    wanted = {"G1"} if gene == "G1" else {"G1", "G4"}
    found = listed(choose_edges(scores, EdgeChoice(gene=gene, threshold=0)))
    assert found == [(a, b, pytest.approx(s)) for a, b, s in expected(scores, ALL) if {a, b} & wanted]
    assert 0 < len(found) < len(expected(scores, ALL))


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_scenic_reads_its_adjacencies(scores, tmp_path, name, separator):
    """With pandas as pySCENIC's `load_adjacencies` calls it, after GRNBoost2's three columns."""
    path = exported(scores, tmp_path / name)
    dtype = {0: str, 1: str, 2: np.float64}
    frame = pd.read_csv(path, sep=separator, dtype=dtype, keep_default_na=False)
    assert list(frame) == ["TF", "target", "importance"]
    assert frame["importance"].is_monotonic_decreasing
    right = expected(scores, EdgeChoice())
    assert list(frame.itertuples(index=False, name=None)) == [(a, b, pytest.approx(s)) for a, b, s in right]


def test_beeline_reads_its_ranked_edges(scores, tmp_path):
    """With pandas as BEELINE's evaluation calls it; the name alone tells the format."""
    path = exported(scores, tmp_path / "rankedEdges.csv", EdgeChoice(top=7))
    frame = pd.read_csv(path, sep="\t", header=0, index_col=None)
    assert list(frame) == ["Gene1", "Gene2", "EdgeWeight"]
    assert list(frame["Gene1"]) == [a for a, _, _ in expected(scores, EdgeChoice(top=7))]
    assert frame["EdgeWeight"].is_monotonic_decreasing


def test_decoupler_scores_with_a_signed_network(scores, tmp_path):
    dc = pytest.importorskip("decoupler")
    path = exported(scores, tmp_path / "net.csv", EdgeChoice(threshold=0.2), format="decoupler", signed=True)
    net = pd.read_csv(path)
    assert list(net) == ["source", "target", "weight"]
    rows = read_scores(scores).to_pylist()
    signs = {(row["gene_a"], row["gene_b"]): np.sign(row["correlation"]) for row in rows}
    assert [np.sign(w) for w in net["weight"]] == [signs[ends] for ends in zip(net.source, net.target, strict=True)]
    assert {-1.0, 1.0} == set(np.sign(net["weight"]))
    cells = pd.DataFrame(np.random.default_rng(0).random((5, 9)), index=list("abcde"), columns=GENES)
    scored, _ = dc.mt.zscore(data=cells, net=net, tmin=2)
    regulators = net["source"].value_counts()
    assert set(scored.columns) == set(regulators[regulators >= 2].index)
    assert np.isfinite(scored.to_numpy()).all()


def test_cytoscape_table_and_sif(scores, tmp_path):
    frame = pd.read_csv(exported(scores, tmp_path / "e.tsv", EdgeChoice(top=5), format="cytoscape"), sep="\t")
    assert list(frame) == ["source", "interaction", "target", "score", "correlation", "q_value", "sign"]
    lines = exported(scores, tmp_path / "e.sif", EdgeChoice(top=5)).read_text().splitlines()
    right = expected(scores, EdgeChoice(top=5))
    assert [line.split("\t") for line in lines] == [[a, "coexpressed", b] for a, b, _ in right]
    assert frame[["source", "interaction", "target"]].to_numpy().tolist() == [line.split("\t") for line in lines]


def of_kinds(rows, seed=0):
    """The same table of a network of kinds; a pair without score has none."""
    found, rng = table(rows, seed=seed), np.random.default_rng(seed)
    out = np.asarray(found["score"].is_null())
    kind = pa.array(np.array(KINDS[1:], object)[rng.integers(0, 6, len(found))], pa.string(), mask=out)
    share = pa.array(rng.uniform(0.2, 1, len(found)).astype(np.float32), mask=out)
    return found.append_column("kind", kind).append_column("kind_probability", share)


@pytest.mark.parametrize("kind", [None, "rising", "u-shaped,opposite", ("falling", "exclusive")])
@pytest.mark.parametrize("sign", [None, "+", "-"])
def test_kind_and_sign_choose_edges_and_travel_with_them(tmp_path, monkeypatch, kind, sign):
    monkeypatch.setattr(edges, "ROWS_AT_ONCE", 11)
    path = write(tmp_path / "s.parquet", of_kinds(60))
    frame = read_scores(path).to_pandas().dropna(subset="score").astype({"kind": str})
    wanted = EdgeChoice(kind=kind, sign=sign, threshold=0)
    frame = frame[frame["kind"].isin(wanted.kinds or KINDS)]
    frame = frame[np.sign(frame["correlation"]).isin({"+": [1], "-": [-1], None: [1, -1]}[sign])]
    found = pd.read_csv(exported(path, tmp_path / "e.tsv", wanted, format="cytoscape"), sep="\t")
    right = frame.sort_values("score", ascending=False, kind="stable")
    assert len(right) > 1
    assert found["kind"].tolist() == right["kind"].tolist()
    assert found["sign"].tolist() == ["+" if c > 0 else "-" for c in right["correlation"]]
    graph = nx.read_graphml(exported(path, tmp_path / "e.graphml", wanted))
    known = {tuple(row[:2]): row[2] for row in right[["gene_a", "gene_b", "kind"]].astype(str).to_numpy().tolist()}
    assert all(told["kind"] in (known.get((a, b)), known.get((b, a))) for a, b, told in graph.edges(data=True))
    parquet = pd.read_parquet(exported(path, tmp_path / "e.parquet", wanted))
    assert parquet["kind"].tolist() == right["kind"].tolist()
    assert wanted.words() in json.loads(pq.read_schema(tmp_path / "e.parquet").metadata[formats.PARQUET_KEY])["edges"]


@pytest.mark.parametrize("directed", [False, True])
def test_networkx_reads_graphml(tmp_path, directed):
    facts = FACTS | {"pairs": {"n_pairs": 50, "pairs": {"regulators": "tfs.txt"}}}
    scores = write(tmp_path / "s.parquet", table(50, directed=directed), facts)
    graph = nx.read_graphml(exported(scores, tmp_path / "net.graphml", EdgeChoice(top=20)))
    assert graph.is_directed() == directed
    right = expected(scores, EdgeChoice(top=20))
    assert set(graph) == {gene for a, b, _ in right for gene in (a, b)}
    best = {}
    for a, b, score in right:
        best.setdefault((a, b) if directed else frozenset((a, b)), score)
    found = {(a, b) if directed else frozenset((a, b)): known for a, b, known in graph.edges(data=True)}
    assert {ends: pytest.approx(known["weight"]) for ends, known in found.items()} == best
    assert all({"weight", "correlation", "q_value", "sign"} == set(known) for known in found.values())
    assert {gene for gene, known in graph.nodes(data=True) if known["regulator"]} == {a for a, _, _ in right}
    assert all(known["degree"] == graph.degree(gene) for gene, known in graph.nodes(data=True))
    assert graph.graph["edges"] == "top 20"
    assert graph.graph["run"] == "runs/first"


def test_pandas_reads_parquet_with_the_facts(scores, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "EDGES_AT_ONCE", 7)
    path = exported(scores, tmp_path / "net.parquet", EdgeChoice(max_q=0.8))
    frame = pd.read_parquet(path)
    assert list(frame) == ["source", "target", "score", "correlation", "q_value", "sign"]
    right = expected(scores, EdgeChoice(max_q=0.8))
    assert list(frame[["source", "target", "score"]].itertuples(index=False, name=None)) == [
        (a, b, pytest.approx(s)) for a, b, s in right
    ]
    kept = json.loads(pq.read_schema(path).metadata[formats.PARQUET_KEY])
    assert (kept["edges"], kept["scores"]["prior"]) == ("max q 0.8, score at least 0.5", 0.02)


def matrix(genes):
    x = np.random.default_rng(1).random((6, len(genes))).astype(np.float32)
    obs = pd.DataFrame({"kind": list("aabbcc")}, index=[f"c{i}" for i in range(6)])
    return ad.AnnData(sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=genes))


@pytest.mark.parametrize("kind", ["genes alone", "h5ad", "zarr", "memory"])
def test_anndata_holds_the_edges_beside_the_matrix(scores, tmp_path, kind):
    """Also where the matrix has its genes in another order, and more of them, and graphs of its own."""
    whole = matrix([*GENES[::-1], "other"])
    whole.varp["mine"] = sparse.eye(10, format="csr", dtype=np.float32)
    given = {"genes alone": None, "memory": whole, "h5ad": tmp_path / "m.h5ad", "zarr": tmp_path / "m.zarr"}[kind]
    if kind == "h5ad":
        whole.write_h5ad(given)
    if kind == "zarr":
        group = zarr.open_group(str(given), mode="w", zarr_format=3)
        write_elem(group, "/", whole, dataset_kwargs={"shards": None})
    wanted = EdgeChoice(threshold=0.3, both_directions=True)
    found = ad.read_h5ad(exported(scores, tmp_path / "net.h5ad", wanted, expression=given))
    if given is not None:
        assert (found.X != whole.X).nnz == 0
        assert list(found.obs["kind"]) == list(whole.obs["kind"])
        assert (found.varp["mine"] != whole.varp["mine"]).nnz == 0
    right = expected(scores, wanted)
    assert found.varp[SCORE].nnz == found.varp[CORRELATION].nnz == len(right)
    at = {gene: number for number, gene in enumerate(found.var_names)}
    assert [found.varp[SCORE][at[a], at[b]] for a, b, _ in right] == pytest.approx([s for _, _, s in right])
    assert (found.varp[SCORE] > 0).sum() == (found.varp[SCORE].T > 0).sum()
    assert json.loads(found.uns["pairscape"]["scores"])["prior"] == 0.02
    assert found.uns["pairscape"]["edges"] == "threshold 0.3, both directions"


def test_genernib_finds_its_three_slots(scores, tmp_path):
    """`uns` as its `file_prediction_h5ad` describes it; weights are text, as its guide asks."""
    for named, name in ((None, "spleen"), ("op", "op")):
        path = exported(scores, tmp_path / f"{name}.h5ad", EdgeChoice(top=9), format="genernib", dataset_id=named)
        uns = ad.read_h5ad(path).uns
        assert {"dataset_id", "method_id", "prediction"} == set(uns)
        assert (uns["dataset_id"], uns["method_id"]) == (name, "pairscape")
        net = uns["prediction"]
        assert list(net) == ["source", "target", "weight"]
        assert all(isinstance(weight, str) for weight in net["weight"])
        right = expected(scores, EdgeChoice(top=9))
        assert [(a, b, float(w)) for a, b, w in net.itertuples(index=False)] == [
            (a, b, pytest.approx(s)) for a, b, s in right
        ]


@pytest.mark.parametrize("name", ["a,b", 'say "x"', "two\nlines", "NA", "ünï", " space"])
def test_odd_names_of_genes_survive_a_table(tmp_path, name):
    scores = write(tmp_path / "s.parquet", table(50, genes=[name, *GENES[1:]]))
    frame = pd.read_csv(exported(scores, tmp_path / "a.csv"), keep_default_na=False)
    right = expected(scores, EdgeChoice())
    assert name in [a for a, _, _ in right]
    assert list(zip(frame["TF"], frame["target"], strict=True)) == [(a, b) for a, b, _ in right]


@pytest.mark.parametrize("suffix", ["csv", "graphml", "parquet", "sif"])
def test_same_scores_give_the_same_bytes(scores, tmp_path, suffix):
    first, second = (exported(scores, tmp_path / f"{n}.{suffix}", EdgeChoice(top=30)).read_bytes() for n in "ab")
    assert first == second


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bad:
    """A mistake: the options of `export SCORES`, what the message has to say, and the file of scores."""

    options: list[str]
    words: list[str]
    scores: str = "scores.parquet"
    facts: dict = field(default_factory=dict)


BAD = {
    "no scores": Bad(["a.csv"], ["gone.parquet", "no such file"], "gone.parquet"),
    "other parquet": Bad(["a.csv"], ["plain.parquet", "no scores of Pairscape"], "plain.parquet"),
    "text": Bad(["a.csv"], ["text.parquet", "no scores"], "text.parquet"),
    "no suffix": Bad(["network"], ["network", ".graphml"]),
    "unknown suffix": Bad(["a.xlsx"], ["a.xlsx", ".csv"]),
    "format of another suffix": Bad(["a.csv", "--format", "graphml"], ["a.csv", ".graphml"]),
    "unknown format": Bad(["a.csv", "--format", "gml"], ["gml"]),
    "it exists": Bad(["there.csv"], ["there.csv exists", "--overwrite"]),
    "a folder": Bad(["folder.csv", "--overwrite"], ["folder.csv is a folder"]),
    "the scores themselves": Bad(["scores.parquet", "--overwrite"], ["scores.parquet", "itself"]),
    "unknown gene": Bad(["a.csv", "--gene", "G77"], ["G77", "G7"]),
    "no gene": Bad(["a.csv", "--gene", ""], ["--gene"]),
    "a gene of two without a name": Bad(["a.csv", "--gene", "G1,"], ["--gene"]),
    "gene whose pairs are cut off": Bad(["a.csv", "--gene", "G1", "--threshold", "0.999"], ["none of its pairs", "G1"]),
    "threshold beyond 1": Bad(["a.csv", "--threshold", "1.5"], ["threshold is 1.5"]),
    "top 0": Bad(["a.csv", "--top", "0"], ["top is 0"]),
    "negative per regulator": Bad(["a.csv", "--per-regulator", "-3"], ["per_regulator is -3"]),
    "threshold 2": Bad(["a.csv", "--threshold", "2"], ["threshold is 2.0"]),
    "a threshold in words": Bad(["a.csv", "--threshold", "high"], ["high"]),
    "precision 0": Bad(["a.csv", "--precision", "0"], ["precision is 0.0"]),
    "both thresholds": Bad(["a.csv", "--precision", "0.5", "--threshold", "0.5"], ["give one of them"]),
    "unknown precision": Bad(["a.csv", "--precision", "0.7"], ["0.7", "0.5, 0.9", "--threshold"]),
    "precision never reached": Bad(["a.csv", "--precision", "0.99"], ["no score reached", "0.99"]),
    "no kinds": Bad(["a.csv", "--kind", "rising"], ["no kinds of dependence", "--kind"]),
    "unknown kind": Bad(["a.csv", "--kind", "rising,bent"], ["kind 'bent'", "u-shaped"]),
    "the kind none": Bad(["a.csv", "--kind", "none"], ["kind 'none'"]),
    "no kind": Bad(["a.csv", "--kind", ""], ["kind ''"]),
    "any score of what": Bad(["a.csv", "--any-score"], ["--max-q"]),
    "no q-values": Bad(["a.csv", "--max-q", "0.1"], ["no q-values", "--q-values"], "directed.parquet"),
    "both ways of a direction": Bad(["a.csv", "--both-directions"], ["which way"], "directed.parquet"),
    "nothing is left": Bad(["a.csv", "--threshold", "0.999"], ["none of its pairs", "threshold 0.999"]),
    "a sign for SCENIC": Bad(["a.csv", "--signed"], ["--signed", "decoupler", "scenic"]),
    "a matrix for a table": Bad(["a.csv", "--expression", "m.h5ad"], ["--expression", "anndata"]),
    "a name for a graph": Bad(["a.graphml", "--dataset-id", "op"], ["--dataset-id", "genernib"]),
    "no matrix": Bad(["a.h5ad", "--expression", "gone.h5ad"], ["gone.h5ad", "does not exist"]),
    "a matrix of other genes": Bad(["a.h5ad", "--expression", "m.h5ad"], ["m.h5ad lacks", "G"]),
    "a control character in XML": Bad(["a.graphml"], ["control character"], "odd.parquet"),
}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("mistaken")
    write(folder / "scores.parquet", table(50))
    write(folder / "directed.parquet", table(50, directed=True).drop_columns("q_value"))
    write(folder / "odd.parquet", table(50, genes=["a\x02b", *GENES[1:]]))
    pq.write_table(table(5), folder / "plain.parquet")
    (folder / "text.parquet").write_text("TF,target\n")
    (folder / "there.csv").write_text("mine")
    (folder / "folder.csv").mkdir()
    matrix(["X1", "X2", *GENES[:3]]).write_h5ad(folder / "m.h5ad")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_and_writes_nothing(name, mistaken, monkeypatch, capfd):
    bad = BAD[name]
    monkeypatch.chdir(mistaken)
    before = contents(mistaken)
    capfd.readouterr()
    status = run_command("export", bad.scores, *bad.options)
    out, err = capfd.readouterr()
    assert (status, out, len(err.splitlines())) == (2, "", 1), (status, out, err)
    assert [word for word in bad.words if word not in err] == [], err
    assert contents(mistaken) == before


def test_what_fails_half_way_leaves_the_old_file(scores, tmp_path, monkeypatch):
    old = tmp_path / "net.csv"
    export_scores(scores, old, EdgeChoice(top=2))
    before = old.read_bytes()

    def torn(path, found, job):
        path.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setitem(FORMATS, "scenic", export.Format((".csv",), torn))
    with pytest.raises(OSError, match="no space"):
        export_scores(scores, old, ALL, overwrite=True)
    assert old.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.csv", "scores.parquet"]


def test_the_command_says_what_it_wrote(scores, tmp_path, capfd):
    assert run_command("export", scores, tmp_path / "net.csv", "--top", "4", "--both-directions") == 0
    out, _ = capfd.readouterr()
    assert out.startswith(f"wrote {tmp_path / 'net.csv'}: 8 edges as scenic, scores 0.9")
    assert run_command("export", scores, tmp_path / "net.csv", "--per-regulator", "1", "--overwrite", "--quiet") == 0
    assert capfd.readouterr().out == ""
    assert pd.read_csv(tmp_path / "net.csv")["TF"].is_unique


def test_the_columns_that_are_always_there_suffice(tmp_path):
    scores = write(tmp_path / "s.parquet", table(50).select(ALWAYS), {})
    for name, form in FORMATS.items():
        exported(scores, Path(tmp_path / f"{name}{form.suffixes[0]}"), EdgeChoice(top=5), format=name)
    assert len(list(tmp_path.iterdir())) == len(FORMATS) + 1
