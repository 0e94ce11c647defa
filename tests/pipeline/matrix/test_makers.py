"""Folders and files of many makers: read with their names, or refused with what they are and the next step."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from scipy import sparse
from scipy.io import mmwrite

from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.open import open_source
from pairscape.pipeline.matrix.source import Source

SYMBOLS = ["CTSH", "IL1B", "RPL23A", "CD81", "TLR2", "STAT1", "HLA-DRA"]
IDS = [f"ENSG0000000{i:04}" for i in range(7)]
CELLS = [f"AAACCCGGTT{a}{b}-1" for a in "ACG" for b in "ACGT"]
X = np.random.default_rng(0).poisson(1.0, (12, 7)).astype(np.float32)
BY_GENES, BY_CELLS = X.T, X


def lines(*columns: Any, header: str = "", sep: str = "\t") -> str:
    rows = [sep.join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([header] * bool(header) + rows) + "\n"


def folder(place: Path, matrix: str, values: Any, **lists: str) -> Path:
    """A Matrix Market file with lists beside it, by their names with `__` for a dot."""
    place.mkdir(parents=True, exist_ok=True)
    mmwrite(place / "x.mtx", sparse.coo_matrix(values.astype(int)), field="integer")
    content = (place / "x.mtx").read_bytes()
    (place / "x.mtx").unlink()
    for name, held in {matrix: content, **{n.replace("__", "."): text.encode() for n, text in lists.items()}}.items():
        (place / name).write_bytes(gzip.compress(held) if name.endswith(".gz") else held)
    return place


NUMBERS = range(1, 100)
GENES, NAMES = lines(IDS, SYMBOLS), lines(CELLS)
PARSE_GENES = lines(IDS, SYMBOLS, ["hg38"] * 7, header="gene_id,gene_name,genome", sep=",")
PARSE_CELLS = lines(CELLS, ["s"] * 12, range(12), header="bc_wells,sample,gene_count", sep=",")


def anndata() -> ad.AnnData:
    obs, var = pd.DataFrame(index=CELLS), pd.DataFrame({"symbol": SYMBOLS}, index=IDS)
    return ad.AnnData(sparse.csr_matrix(X), obs=obs, var=var)


def mudata(path: Path, *names: str) -> Path:
    with h5py.File(path, "w") as root:
        for name in names:
            write_elem(root.require_group("mod"), name, anndata())
    return path


def groups(path: Path, *members: str) -> Path:
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    for member in members:
        folder, _, name = member.rpartition("/")
        write_elem(root.require_group(folder) if folder else root, name, anndata(), dataset_kwargs={"shards": None})
    return path


def featurecounts(path: Path, *, comment: bool = True, more: tuple[str, ...] = (), ends: str = "\n") -> Path:
    heading = ["Geneid", "Chr", "Start", "End", "Strand", "Length", *more, *(f"/data/{c}.bam" for c in CELLS)]
    described = [["chr1;chr1", "1;9", "5;19", "+;+", "16", *(["protein_coding"] * len(more))] for _ in IDS]
    rows = [[i, *d, *map(int, counts)] for i, d, counts in zip(IDS, described, X.T, strict=True)]
    text = ends.join("\t".join(map(str, row)) for row in [heading, *rows]) + ends
    text = '# Program:featureCounts v2.0.1; Command:"featureCounts" "-T" "4"' + ends + text if comment else text
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def star(place: Path, name: str = "matrix.mtx", values: Any = BY_GENES) -> Path:
    return folder(place, name, values, features__tsv=lines(IDS, SYMBOLS, ["Gene Expression"] * 7), barcodes__tsv=NAMES)


# The maker: who writes it, options, ids (or symbols) by which genes are named, and words of its notes.
READ: dict[str, tuple[Callable[[Path], Any], dict[str, Any], list[str], str]] = {
    "Parse": (lambda d: folder(d / "m", "count_matrix.mtx", BY_CELLS, all_genes__csv=PARSE_GENES,
                               cell_metadata__csv=PARSE_CELLS), {}, IDS, "all_genes.csv begins with a header"),
    "Parse, DGE.mtx": (lambda d: folder(d / "m", "DGE.mtx", BY_CELLS, all_genes__csv=PARSE_GENES,
                                        cell_metadata__csv=PARSE_CELLS), {}, IDS, "header"),
    "Parse, gzipped": (lambda d: folder(d / "m", "count_matrix.mtx.gz", BY_CELLS, all_genes__csv__gz=PARSE_GENES,
                                        cell_metadata__csv__gz=PARSE_CELLS), {}, IDS, "header"),
    "Parse, by genome": (lambda d: folder(d / "m", "DGE.mtx", BY_CELLS, all_genes__csv=PARSE_GENES,
                                          cell_metadata__csv=PARSE_CELLS), {"key": "hg38"}, IDS, "header"),
    "alevin": (lambda d: folder(d / "alevin", "quants_mat.mtx", BY_CELLS, quants_mat_rows__txt=NAMES,
                                quants_mat_cols__txt=lines(IDS)), {}, IDS, ""),
    "alevin, gzipped": (lambda d: folder(d / "alevin", "quants_mat.mtx.gz", BY_CELLS, quants_mat_rows__txt=NAMES,
                                         quants_mat_cols__txt=lines(SYMBOLS)), {}, SYMBOLS, ""),
    "kallisto": (lambda d: folder(d / "m", "cells_x_genes.mtx", BY_CELLS, cells_x_genes__genes__txt=lines(IDS),
                                  cells_x_genes__barcodes__txt=NAMES), {}, IDS, ""),
    "STARsolo": (lambda d: star(d / "Solo.out/Gene/filtered"), {}, IDS, ""),
    "STARsolo with EM": (lambda d: (star(d / "raw", "UniqueAndMult-EM.mtx", BY_GENES * 0), star(d / "raw"))[1], {}, IDS,
                         "matrix.mtx is taken, and not UniqueAndMult-EM.mtx"),
    "STARsolo, EM by its path": (lambda d: (star(d / "raw", values=BY_GENES * 0),
                                            star(d / "raw", "UniqueAndMult-EM.mtx")
                                            / "UniqueAndMult-EM.mtx")[1], {}, IDS, ""),
    "header in both lists": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES,
                                              features__tsv="gene_id\tgene_name\n" + GENES,
                                              barcodes__tsv="barcode\n" + NAMES),
        {}, IDS, "features.tsv begins with a header"),
    "header in one list": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES, genes__tsv=GENES,
                                            barcodes__tsv="x\n" + NAMES),
        {}, IDS, "barcodes.tsv begins with a header (x)"),
    "symbols before ids": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES, barcodes__tsv=NAMES, features__tsv=lines(
        SYMBOLS, IDS, header="gene_name\tgene_id")), {}, IDS, "header"),
    "R's row names": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES, barcodes__tsv=lines(NUMBERS[:12], CELLS),
                                       genes__tsv=lines(NUMBERS[:7], IDS, SYMBOLS)), {}, IDS, ""),
    "R's write.table": (lambda d: folder(
        d / "m", "matrix.mtx", BY_GENES, barcodes__tsv=quoted(NUMBERS[:12], CELLS, header='"x"'),
        features__tsv=quoted(NUMBERS[:7], IDS, SYMBOLS, header='"V1"\t"V2"')), {}, IDS, "header"),
    "R's write.csv": (lambda d: folder(
        d / "m", "matrix.mtx", BY_GENES, barcodes__csv=quoted(NUMBERS[:12], CELLS, header='"","x"', sep=","),
        genes__csv=quoted(NUMBERS[:7], IDS, header='"","gene_id"', sep=",")), {}, IDS, "header"),
    "a first gene without a symbol": (lambda d: folder(
        d / "m", "matrix.mtx", BY_GENES, barcodes__tsv=NAMES, genes__tsv=GENES.replace("\tCTSH", "", 1)), {}, IDS, ""),
    "quotes": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES, barcodes__tsv=quoted(CELLS),
                                genes__tsv=quoted(IDS, SYMBOLS)), {}, IDS, ""),
    "GEO, names before": (lambda d: folder(d / "m", "GSM1_matrix.mtx.gz", BY_GENES, GSM1_barcodes__tsv__gz=NAMES,
                                           GSM1_genes__csv__gz=lines(IDS, header="gene_id")), {}, IDS, "header"),
    "one genome of two": (lambda d: folder(d / "m", "matrix.mtx", np.vstack([BY_GENES, BY_GENES]), barcodes__tsv=NAMES,
                                           genes__tsv=two_genomes()),
        {"key": "mm10"}, IDS, "'mm10___' before the name"),
    "MuData": (lambda d: mudata(d / "m.h5mu", "rna"), {}, IDS, "mod/rna is taken"),
    "MuData of two": (lambda d: mudata(d / "m.h5mu", "atac", "rna"), {}, IDS, "mod/rna is taken, and not atac"),
    "MuData, by key": (lambda d: mudata(d / "m.h5mu", "atac", "rna"), {"key": "atac"}, IDS, "mod/atac is taken"),
    "MuData as .h5": (lambda d: mudata(d / "m.h5", "prot", "gex"), {}, IDS, "mod/gex is taken"),
    "MuData in Zarr": (lambda d: groups(d / "m.zarr", "mod/rna", "mod/atac"), {}, IDS, "mod/rna is taken"),
    "SpatialData": (lambda d: groups(d / "m.zarr", "tables/table"), {}, IDS, "tables/table is taken"),
    "SpatialData, old": (lambda d: groups(d / "m.zarr", "table/table"), {}, IDS, "table/table is taken"),
    "SpatialData of two": (lambda d: groups(d / "m.zarr", "tables/a", "tables/b"),
        {"key": "b"}, IDS, "tables/b is taken"),
    "featureCounts": (lambda d: featurecounts(d / "m.txt"),
        {}, IDS, "annotations of genes (5: Chr, Start, End, Strand"),
    "featureCounts, gzipped": (lambda d: featurecounts(d / "m.tsv.gz"), {}, IDS, "annotations of genes (5: Chr"),
    "featureCounts, DOS": (lambda d: featurecounts(d / "m.txt", ends="\r\n"), {}, IDS, "annotations of genes (5"),
    "featureCounts, no comment": (lambda d: featurecounts(d / "m.txt", comment=False), {}, IDS, "annotations of genes"),
    "featureCounts, more attributes": (lambda d: featurecounts(d / "m.txt", more=("gene_biotype",)),
        {}, IDS, "(6: Chr"),
}  # fmt: skip


def quoted(*columns: Any, header: str = "", sep: str = "\t") -> str:
    return lines(*([f'"{value}"' for value in column] for column in columns), header=header, sep=sep)


def two_genomes() -> str:
    return "".join(lines([g + i for i in IDS], [g + s for s in SYMBOLS]) for g in ("GRCh38_", "mm10___"))


def opened(source: Any, scratch: Path, **options: Any) -> Source:
    return open_source(source, scratch=scratch, progress=Silent(), **options)


@pytest.mark.parametrize("maker", READ)
def test_what_is_read(maker: str, tmp_path: Path) -> None:
    make, options, genes, note = READ[maker]
    source = opened(make(tmp_path), tmp_path / "scratch", **options)
    np.testing.assert_array_equal(source.values.rows(0, 12).toarray(), X)
    assert list(source.var.index) == genes
    assert [name.removeprefix("/data/").removesuffix(".bam") for name in source.obs.index] == CELLS
    if "symbol" in source.var:
        assert list(source.var["symbol"])[1:] == SYMBOLS[1:]
    assert note in " ".join(source.notes)


def test_annotations_of_parse_come_along(tmp_path: Path) -> None:
    make = READ["Parse"][0]
    source = opened(make(tmp_path), tmp_path / "scratch")
    assert list(source.obs["gene_count"]) == list(range(12))
    assert list(source.obs["sample"]) == ["s"] * 12


def plain(name: str) -> Callable[[Path], Path]:
    def make(home: Path) -> Path:
        (home / name).write_bytes(b"x" * 100)
        return home / name

    return make


def solo(home: Path) -> Path:
    star(home / "Solo.out/Gene/raw")
    star(home / "Solo.out/Gene/filtered")
    return home / "Solo.out"


def usa(names: list[str]) -> Callable[[Path], Path]:
    return lambda d: folder(
        d / "m", "quants_mat.mtx", np.hstack([X] * 3), quants_mat_rows__txt=NAMES, quants_mat_cols__txt=lines(names)
    )


def made(path: Path, *members: str) -> Path:
    path.mkdir()
    for member in members:
        (path / member).write_text("x")
    return path


REFUSED: dict[str, tuple[Callable[[Path], Any], dict[str, Any], list[str]]] = {
    "h5ad.gz": (plain("m.h5ad.gz"), {}, ["gunzip -k m.h5ad.gz", "give m.h5ad"]),
    "h5.gz": (plain("m.h5.gz"), {}, ["gunzip -k m.h5.gz"]),
    "loom.gz": (plain("m.loom.gz"), {}, ["gunzip", "m.loom"]),
    "h5mu.gz": (plain("m.h5mu.gz"), {}, ["gunzip", "m.h5mu"]),
    "h5ad.bz2": (plain("m.h5ad.bz2"), {}, ["bunzip2", "m.h5ad"]),
    "h5ad.zst": (plain("m.h5ad.zst"), {}, ["unzstd", "m.h5ad"]),
    "tar.gz": (plain("m.tar.gz"), {}, ["archive", "tar xzf m.tar.gz"]),
    "tgz": (plain("m.tgz"), {}, ["archive", "tar xzf m.tgz"]),
    "zip": (plain("m.zarr.zip"), {}, ["archive", "unzip m.zarr.zip"]),
    "rds": (plain("m.rds"), {}, ["an R object", 'readRDS("m.rds")', "writeH5AD", "m.h5ad"]),
    "RData": (plain("m.RData"), {}, ["an R workspace", 'load("m.RData")']),
    "qs": (plain("m.qs"), {}, ["package qs", 'qread("m.qs")']),
    "h5seurat": (plain("m.h5seurat"), {}, ["SeuratDisk::Convert", "m.h5seurat"]),
    "h5Seurat": (plain("m.h5Seurat"), {}, ["SeuratDisk::Convert"]),
    "xlsx": (plain("m.xlsx"), {}, ["an Excel file", ".csv"]),
    "bam": (plain("m.bam"), {}, ["aligned reads", "STARsolo"]),
    "fastq.gz": (plain("m.fastq.gz"), {}, ["a file of reads"]),
    "parquet": (plain("m.parquet"), {}, ["pandas.read_parquet('m.parquet')"]),
    "pkl": (plain("m.pkl"), {}, ["may run code"]),
    "unknown": (plain("m.foo"), {}, ["unknown kind of name", ".h5ad"]),
    "USA mode": (usa([*IDS, *(f"{i}-U" for i in IDS), *(f"{i}-A" for i in IDS)]), {}, ["USA mode", "pyroe"]),
    "USA mode, old": (usa(IDS), {}, ["USA mode", "pyroe"]),
    "Solo.out": (solo, {}, ["Gene/filtered, Gene/raw", "give one"]),
    "outs of Cell Ranger": (lambda d: star(d / "outs/filtered_feature_bc_matrix").parent,
        {}, ["filtered_feature_bc_matrix"]),
    "TileDB-SOMA": (lambda d: made(d / "soma", "__tiledb_group.tdb"), {}, ["tiledbsoma.io.to_anndata"]),
    "binary alevin": (lambda d: made(d / "alevin", "quants_mat.gz", "quants_mat_rows.txt"), {}, ["--dumpMtx"]),
    "a folder of anything": (lambda d: made(d / "f", "thesis.doc"), {}, ["thesis.doc", "matrix.mtx"]),
    "an empty folder": (lambda d: made(d / "f"), {}, ["it is empty"]),
    "Parse without genes": (lambda d: folder(d / "m", "DGE.mtx", BY_CELLS, cell_metadata__csv=PARSE_CELLS), {},
                            ["all_genes.csv"]),
    "alevin without cells": (lambda d: folder(d / "m", "quants_mat.mtx", BY_CELLS, quants_mat_cols__txt=lines(IDS)), {},
                             ["quants_mat_rows.txt"]),
    "a list that is short": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES, genes__tsv=lines(IDS[1:]),
                                              barcodes__tsv=NAMES), {}, ["names 6 genes", "of one matrix?"]),
    "a name too many": (lambda d: folder(d / "m", "matrix.mtx", BY_GENES, genes__tsv=lines(["GATA1", *IDS]),
                                         barcodes__tsv=NAMES), {}, ["names 8 genes", "header of one line"]),
    "no such genome": (lambda d: folder(d / "m", "matrix.mtx", np.vstack([BY_GENES, BY_GENES]), barcodes__tsv=NAMES,
                                        genes__tsv=two_genomes()), {"key": "hg19"}, ["GRCh38, mm10", "--key"]),
    "MuData without RNA": (lambda d: mudata(d / "m.h5mu", "atac", "prot"), {}, ["atac, prot", "--key"]),
    "MuData, no such": (lambda d: mudata(d / "m.h5mu", "rna"), {"key": "adt"}, ["'adt'", "rna"]),
    "MuData of nothing": (lambda d: mudata(d / "m.h5mu"), {}, ["no modality"]),
    "SpatialData of two": (lambda d: groups(d / "m.zarr", "tables/a", "tables/b"), {}, ["a, b", "--key"]),
    "a header behind #": (lambda d: made_text(d / "m.tsv", "# gene\tc1\tc2\nA\t1\t2\nB\t3\t4\n"),
        {}, ["looks like the header"]),
}  # fmt: skip


def made_text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_next_step(name: str, tmp_path: Path) -> None:
    make, options, words = REFUSED[name]
    with pytest.raises(InputError) as refused:
        opened(make(tmp_path), tmp_path / "scratch", **options)
    message = str(refused.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) == 1
    assert "damaged" not in message
