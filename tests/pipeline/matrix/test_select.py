"""Cells by a condition and genes by a list: what is picked, and that a condition can do nothing but compare."""

import numpy as np
import pandas as pd
import pytest

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.select import choose_cells, choose_genes, mapped_symbols, mitochondrial

OBS = pd.DataFrame(
    {
        "cell_type": pd.Categorical(["dendritic", "B cell", None, "dendritic"]),
        "depth": [10, 20, 30, 40],
        "total counts": [1.0, 2.0, np.nan, 4.0],
        "doublet": [False, True, False, False],
        "max": [1, 2, 3, 4],
        "index": list("abcd"),
    },
    index=list("wxyz"),
)


@pytest.mark.parametrize(
    ("condition", "picked"),
    [
        (None, "wxyz"),
        ("cell_type == 'dendritic'", "wz"),
        ("cell_type != 'dendritic'", "xy"),
        ('cell_type in ["B cell", "T cell"]', "x"),
        ("cell_type not in ['B cell']", "wyz"),
        ("10 < depth <= 30", "xy"),
        ("depth > 15 and not doublet", "yz"),
        ("(depth > 15) & ~doublet | (max == 1)", "wyz"),
        ("`total counts` >= 2", "xz"),
        ("doublet", "x"),
        ("index == 'b'", "x"),
        ("cell_type == 'depth' or depth == 10", "w"),
        ("depth * 2 - 10 > `total counts` + 30", "yz"[1:]),
    ],
)
def test_conditions(condition, picked):
    assert "".join(OBS.index[choose_cells(OBS, condition)]) == picked


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("cell_typ == 'dendritic'", ["no column 'cell_typ'", "its columns are cell_type, depth"]),
        ("cell_type = 'dendritic'", ["is no condition", "its columns are"]),
        ("depth >", ["is no condition"]),
        ("", ["is no condition"]),
        ("depth + 1", ["no condition that a cell meets"]),
        ("depth > 'a'", ["cannot be evaluated"]),
        ("depth > 99", ["picks none of the 4 cells", "depth has values such as 10, 20"]),
        ("__import__('os').system('touch here')", ["may only compare columns", "its columns are"]),
        ("depth.max() > 3", ["may only compare columns"]),
        ("cell_type.str == 'a'", ["may only compare columns"]),
        ("@OBS.depth > 3", ["no condition"]),
        ("depth[0] > 3", ["may only compare columns"]),
        ("`no such` > 3", ["no column 'no such'"]),
        ("True", ["no condition that a cell meets"]),
    ],
)
def test_what_is_no_condition(condition, words, refuses):
    with refuses(*words):
        choose_cells(OBS, condition)


def test_without_columns(refuses):
    with refuses("obs has no columns"):
        choose_cells(OBS[[]], "depth > 3")


GENES = pd.Index(["ENSG1", "ENSG2", "ENSG3"])


def test_a_list_finds_ids_and_symbols(tmp_path):
    (tmp_path / "genes.txt").write_text("ENSG3\nCD4\n")
    chosen, said = choose_genes(tmp_path / "genes.txt", GENES, ["CD4", "", "CD8A"])
    assert chosen.tolist() == [True, False, True]
    assert said == "2 of 2 genes of genes.txt are in the matrix"
    assert choose_genes(None, GENES, None)[0].all()


def test_a_list_of_other_genes_is_refused(tmp_path, refuses):
    (tmp_path / "genes.txt").write_text("CD4\nCD8A\nENSG3\n")
    with refuses("genes.txt", "CD4", "ENSG1"):
        choose_genes(tmp_path / "genes.txt", GENES, None)


def test_a_map_is_read_either_way_round(tmp_path):
    (tmp_path / "map.csv").write_text("CD4,ENSG1\nCD8A,ENSG3\n")
    assert mapped_symbols(tmp_path / "map.csv", GENES)[0] == ["CD4", "", "CD8A"]
    (tmp_path / "map.csv").write_text("ENSG1,CD4\nENSG3,CD8A\n")
    assert mapped_symbols(tmp_path / "map.csv", GENES)[0] == ["CD4", "", "CD8A"]
    (tmp_path / "map.csv").write_text("FBgn1,a\nFBgn2,b\n")
    with pytest.raises(InputError, match="neither of its columns names a gene of the matrix, which has ENSG1"):
        mapped_symbols(tmp_path / "map.csv", GENES)


def test_genes_of_the_mitochondrion():
    names = pd.Index(["MT-ND1", "mt-Co1", "GRCh38_MT-ND2", "MTOR", "SMT-X", "ENSG1"])
    assert mitochondrial(names, None).tolist() == [True, True, True, False, False, False]
    assert mitochondrial(pd.Index(["ENSG1", "ENSG2"]), ["MT-ND1", ""]).tolist() == [True, False]
