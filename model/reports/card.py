"""The model card: the files of a run in, `model-card.md` out; training data, figures beside the audit, limits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairscape.model.networks.published import FACTOR_NETWORK
from pairscape.model.networks.weights import NetworkFacts, load_weights, read_config, read_metrics
from pairscape.model.reports.page import percent, whole, write_page
from pairscape.model.reports.run_report import (
    audit_rows,
    calibration_words,
    comparison,
    kind_words,
    label_leak,
    split_words,
    verdict,
)
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images

FILE = "model-card.md"
SCALES = {
    "max": "from 0 to the gene's maximum, bins of equal width",
    "range": "from the gene's minimum to its maximum, bins of equal width",
    "quantile": "from 0 to the gene's 99.9th percentile of expressed cells, bins of equal width",
    "rank": "bins of as equal a number of expressed cells as ties allow",
}

BESIDE = {  # network: what it is given of the genes beside the images of their pair, from the codes of the same cells
    "deepdrim": "images of each gene with itself and with its ten nearest neighbours",
    FACTOR_NETWORK: "how the two genes are correlated through the factors that all genes share (`factors_only` below)",
}


def source_facts(images: Images) -> dict[str, Any]:
    """Matrix, cells, pairs and labels behind a store, for a run's `config.toml`; what is unknown is left out."""
    made = images.provenance
    known: dict[str, Any] = {
        name: made[name] for name in ("matrix", "cells", "seed", "pairs", "network") if name in made
    }
    known |= {"codes_hash": images.spec.codes_hash, "n_genes": int(images.array("gene").size)}
    found: dict[str, Any] = json.loads(json.dumps(known, default=str), object_hook=_without_null)
    return found


def _without_null(table: dict[str, Any]) -> dict[str, Any]:
    """As TOML has no null."""
    return {key: value for key, value in table.items() if value is not None}


def write_card(run: Path) -> Path:
    """Write `model-card.md` of a run; InputError where one of its files is missing or damaged."""
    path = run / "model.safetensors"
    file, config, metrics = load_weights(path), read_config(run / "config.toml"), read_metrics(run)
    if metrics is None:
        raise InputError(
            f"{run / 'metrics.json'}: no such file, and the model card quotes it; restore it, or train again."
        )
    facts, parameters = NetworkFacts.from_table(file.facts, path), sum(t.numel() for t in file.tensors.values())
    return write_page(run / FILE, "card.md.j2", page_words(run.resolve().name, facts, parameters, config, metrics))


def page_words(
    name: str, facts: NetworkFacts, parameters: int, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """What the template of the card is filled with; `parameters` is the number of weights."""
    source = config.get("store", {}).get("source", {})
    return {
        "name": name,
        "verdict": verdict(metrics),
        "comparison": comparison(metrics),
        "prior": f" --prior {facts.natural:.2g}",
        "about": _about(facts, parameters),
        "classes": facts.class_names,
        "source": _trained_on(config, source, facts.natural),
        "split": metrics["split"],
        "split_words": split_words(metrics["split"]),
        "sizes": _sizes(metrics),
        "audit": audit_rows(metrics, config),
        "kinds": kind_words(metrics.get("kinds")),
        "warning": label_leak(metrics),
        "calibration": calibration_words(metrics["calibration"]),
        "points": metrics["operating_points"],
        "limits": _limits(facts, metrics, label_words(source)),
        "licence": _licence(source),
        "versions": ", ".join(f"{what} {version}" for what, version in metrics["versions"].items()),
    }


def _about(facts: NetworkFacts, parameters: int) -> list[tuple[str, str]]:
    drawn, bins = facts.rendering, facts.bins
    steps = [f"channels `{drawn.channels}`"]
    steps += [f"bins pooled by {drawn.pool}"] if drawn.pool > 1 else []
    steps += [f"smoothed by {drawn.sigma:g} bins"] if drawn.sigma else []
    steps += ["cells without both genes left out"] if drawn.drop_both_zero else []
    mirror = "averaged over (a, b) and (b, a)" if facts.mirror else "of (a, b) as given: the order matters"
    beside = BESIDE.get(facts.network)
    return [
        ("network", f"`{facts.network}`, version {facts.network_version}, {parameters:,} numbers"),
        ("images", f"joint counts of two genes over all cells, {bins} × {bins} bins"),
        *([("beside the images", beside)] if beside else []),
        ("rule of binning", f"`{facts.scale}`: {SCALES[facts.scale]}; applied to each matrix anew"),
        ("rendering", ", ".join(steps)),
        ("scores", f"probability of any class but none, {mirror}"),
    ]


def _trained_on(config: Mapping[str, Any], source: Mapping[str, Any], natural: float) -> list[tuple[str, str]]:
    store = config.get("store", {})
    known = source.get("matrix", {})
    matrix = f"`{_name(known['path'])}`, content sha256 `{known['sha256']}`" if known else "not recorded"
    return [
        ("matrix", matrix),
        (
            "image store",
            f"`{_name(store.get('path', 'not recorded'))}`, plan sha256 `{store.get('plan_hash', 'not recorded')}`",
        ),
        ("cells", f"{whole(store.get('n_cells'))} in every image; {source.get('cells', 'which ones is not recorded')}"),
        ("genes", whole(source.get("n_genes"))),
        ("pairs", f"{whole(store.get('n_pairs'))} candidates; {candidate_words(source)}"),
        ("labels", label_words(source)),
        ("positive among the training pairs", percent(natural)),
        ("seed", str(config.get("seed", "–"))),
    ]


def _name(path: str) -> str:
    """Of a file or URL without its folders, which mean nothing elsewhere."""
    return path.rstrip("/").rpartition("/")[2]


def candidate_words(source: Mapping[str, Any]) -> str:
    """Which pairs were candidates, from the words of the store's provenance."""
    asked = source.get("pairs", {})
    if "all_pairs" in asked:
        return "every unordered pair of genes"
    if "regulators" in asked:
        return f"regulators of `{_name(asked['regulators'])}` × " + (
            f"targets of `{_name(asked['targets'])}`" if "targets" in asked else "all genes"
        )
    return f"those of `{_name(asked['pairs'])}`" if "pairs" in asked else "which ones is not recorded"


def label_words(source: Mapping[str, Any]) -> str:
    """Where the labels came from."""
    asked, network = source.get("pairs", {}), source.get("network")
    if asked.get("labels") == "replicate":
        rule = (
            f"false discovery rate {asked['fdr']}" if "fdr" in asked else f"|Spearman| ≥ {asked.get('threshold', 0.3)}"
        )
        return f"co-expression in the other half of the cells ({rule})"
    if network:
        named = (
            f"{network['source']} ({network.get('organism', 'organism not recorded')})" if "source" in network else ""
        )
        path = f"`{_name(network.get('path', 'not recorded'))}`, sha256 `{network.get('sha256', 'not recorded')}`"
        return f"edges of the network {named or path}" + (f", {path}" if named else "")
    return f"those of the list `{_name(asked['pairs'])}`" if "pairs" in asked else "not recorded"


def _sizes(metrics: Mapping[str, Any]) -> str:
    sizes = ", ".join(
        f"{whole(metrics.get(f'n_{part}'))} {words} pairs"
        for part, words in (("train", "training"), ("validation", "validation"), ("test", "test"))
    )
    return f"{sizes}; {percent(metrics['prevalence'])} of the test pairs are positive."


def _limits(facts: NetworkFacts, metrics: Mapping[str, Any], labels: str) -> list[str]:
    prevalence = percent(facts.natural)
    lines = [
        "It ranks gene pairs of a single-cell matrix by how much their joint counts look like pairs labelled by: "
        f"{labels}. It knows no other meaning of an edge.",
        "A score is evidence from expression alone. Dependence of two genes is no proof that one regulates the other.",
        f"Probabilities are at a prevalence of {prevalence}; other candidates have another one: give `--prior`.",
        "In other data the ranking may hold where the probabilities do not. `predict` and `evaluate` compare the new "
        "data with `reference.safetensors` and say how far they are apart; heed it.",
        f"The figures above are about pairs held out of the same data (split `{metrics['split']}`). They are no "
        "promise for other tissues, technologies or species: measure on pairs of known answer there (`pairscape "
        "evaluate`).",
        "Not for decisions about patients.",
    ]
    if facts.classes == 3:
        lines.insert(
            2, "The direction of an edge may be no more than who is a regulator: see `direction` in metrics.json."
        )
    return lines


def _licence(source: Mapping[str, Any]) -> list[str]:
    network = source.get("network") or {}
    of_labels = network.get("licence", network.get("license"))
    return [
        "Weights follow from the matrix and the labels above: what their owners allow binds whoever passes it on.",
        f"Labels: {of_labels}." if of_labels else "Labels: no licence is recorded.",
        "Pairscape, which reads it: BSD-3-Clause.",
    ]
