"""Two packages that score pairs of genes, rustscenic (GRNBoost2) and hotspotsc (Hotspot), each run as its users run it.

They are not among Pairscape's requirements: `peer` runs this very file with the Python of an environment that has them
(`python -m venv ENV && ENV/bin/pip install rustscenic hotspotsc scikit-learn`), on one thread.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEERS = {"hotspot": "hotspot", "rustscenic": "rustscenic.grn"}  # and what of them is imported
NEIGHBOURS, COMPONENTS = 30, 20
THREADS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def reason_against(python: Path | None, name: str) -> str:
    """Why a package cannot be run, in words; empty if it can."""
    if python is None:
        return "not run: --peers was not given"
    ran = subprocess.run([python, "-I", "-c", f"import {PEERS[name]}"], capture_output=True, text=True, check=False)
    return f"not run: {last_line(ran.stderr)}" if ran.returncode else ""


def last_line(text: str) -> str:
    """What a program said last."""
    return (text.strip().splitlines() or ["it says nothing"])[-1]


def peer(python: Path, name: str) -> Callable[[Any, Any], Any]:
    """A package as a statistic of `benchmarks.coexpression`."""

    def score(cells: Any, _: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder, "cells.npz"), Path(folder, "scores.npy")
            np.savez(given, counts=cells.dense.T, values=cells.values.T, depth=cells.depth)
            command, alone = [python, "-I", __file__, name, given, made], os.environ | dict.fromkeys(THREADS, "1")
            ran = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise SystemExit(f"{name}: {last_line(ran.stderr)}")
            return np.load(made)

    return score


def hotspot(counts: Any, values: Any, depth: Any) -> Any:
    """Z of local correlations, (G, G): neighbours of a cell by principal components of log expression."""
    import anndata
    import scipy.sparse
    from hotspot import Hotspot

    left, length, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    found = np.zeros((counts.shape[1],) * 2, np.float32)
    varying = np.flatnonzero(np.ptp(counts, axis=0) > 0)
    cells = anndata.AnnData(scipy.sparse.csr_matrix(counts[:, varying]))
    cells.obsm["components"] = left[:, :COMPONENTS] * length[:COMPONENTS]
    cells.obs["depth"] = depth
    made = Hotspot(cells, model="danb", latent_obsm_key="components", umi_counts_obs_key="depth")
    made.create_knn_graph(weighted_graph=False, n_neighbors=NEIGHBOURS, approx_neighbors=False)
    z = made.compute_local_correlations(list(cells.var_names), jobs=1)
    found[np.ix_(varying, varying)] = np.nan_to_num(z.loc[list(cells.var_names), list(cells.var_names)].to_numpy())
    return found


def rustscenic(counts: Any, values: Any, depth: Any) -> Any:
    """Importance of every gene, row, for every other, with the sign of their correlation, as SCENIC takes it."""
    from rustscenic import grn

    names = [f"g{number}" for number in range(values.shape[1])]
    edges = grn.infer((np.ascontiguousarray(values, np.float32), names), names, seed=0, verbose=False)
    found = np.zeros((len(names),) * 2, np.float32)
    found[edges["TF"].str[1:].astype(int), edges["target"].str[1:].astype(int)] = edges["importance"]
    with np.errstate(invalid="ignore", divide="ignore"):
        sign = np.sign(np.nan_to_num(np.corrcoef(values.T)))
    return found * sign


if __name__ == "__main__":
    _, chosen, source, target = sys.argv
    np.save(target, {"hotspot": hotspot, "rustscenic": rustscenic}[chosen](**np.load(source)))
