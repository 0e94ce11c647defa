"""Names that are no genes and no cells: what each is taken for, and which genes and cells stay."""

import pandas as pd
import pytest

from pairscape.pipeline.genes.features import in_words, no_cells, no_genes

COUNTERS, SPIKES, PROTEINS, COLUMNS = (
    "counters of reads", "spike-ins", "antibodies or hashtags", "columns of annotations"
)  # fmt: skip
NO_GENES = {
    COUNTERS: [  # HTSeq with and without underscores, STAR's GeneCounts, featureCounts, samtools idxstats
        "__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique", "no_feature",
        "alignment_not_unique", "N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous", "Unassigned_NoFeatures",
        "Unassigned_Ambiguity", "_unmapped", "*",
    ],
    SPIKES: [  # ERCC as Ensembl, scater, Tabula Muris and Drop-seq write it; Lexogen's; Fluidigm's; Illumina's
        "ERCC-00002", "ERCC_00170", "ERCC00003", "ERCC.00004", "gSpikein_ERCC-00002", "spike_ERCC-00009",
        "mm10_ERCC-00012", "gSpikein_phiX174", "SIRV101", "SIRVome_iso", "RNA_SPIKE_1", "RNASpike4", "spike-in", "phiX",
    ],
    PROTEINS: ["CD3_TotalSeqB", "CD19-TotalSeqC", "CD4_TotalC", "CD8a-TotalA", "CD56.TotalSeq", "ADT_CD3", "adt:CD3",
               "HTO_A", "HTO-3", "Hashtag1", "hashtag_2", "prot_CD45"],
    COLUMNS: ["n_genes", "nCount_RNA", "nFeature_RNA", "percent.mt", "louvain", "leiden", "seurat_clusters", "cluster",
              "batch", "orig.ident", "S.Score", "doublet_score", "Unnamed: 0", "total", "cell_type", "UMAP_1"],
}  # fmt: skip
GENES = [
    "ERCC1", "ERCC2", "ERCC6L2", "ERCC8", "SPINK1", "SPIKE1", "SIRT1", "ADTRP", "HTO", "PHIP", "PHAX", "PROTO1",
    "TOTALIN", "CLUSTERIN", "BATCHED", "MT-ND1", "HLA-DRA", "RP11-34P13.3", "ENSG00000000003.15", "7SK", "nan", "CD3E",
    "CD19", "INDEXIN", "SUMO1", "SUMF1", "1007_s_at", "2610305D13Rik", "EGFP", "Y_RNA", "5S_rRNA",
]  # fmt: skip
NO_CELLS = ["Length", "length", "gene_length", "Chr", "Start", "End", "Strand", "EffectiveLength", "Total",
            "Unnamed: 0", "entrez_id", "rowsum"]  # fmt: skip
CELLS = ["AAACCTGAGAAACCAT-1", "cell_1", "GSM123", "Length_1", "S1", "P1_A01", "start1", "0", "nan", "endo_12"]


def table(n: int) -> pd.DataFrame:
    return pd.DataFrame(index=range(n))


@pytest.mark.parametrize("kind", NO_GENES)
def test_rows_that_are_no_genes_are_known_by_name(kind: str) -> None:
    names = NO_GENES[kind]
    assert [(name, found) for name, found in zip(names, no_genes(names, table(len(names))), strict=True)] == [
        (name, kind) for name in names
    ]


def test_genes_and_cells_stay() -> None:
    assert not no_genes(GENES, table(len(GENES))).any()
    assert not no_cells(CELLS).any()


def test_columns_that_are_no_cells_are_known_by_name() -> None:
    assert set(no_cells(NO_CELLS)) == {"annotations of genes"}


@pytest.mark.parametrize(
    ("column", "types", "left"),
    [
        ("feature_types", ["Gene Expression", "Antibody Capture", "Gene Expression"], 1),
        ("feature_types", ["Gene Expression", "CRISPR Guide Capture", "Custom"], 2),
        ("feature_types", ["Gene Expression", "Peaks", "Peaks"], 2),
        ("feature_type", ["gene_expression", "antibody_capture", None], 1),
        ("feature_biotype", ["gene", "spike-in", "gene"], 1),
        ("modality", ["RNA", "ADT", "RNA"], 1),
        ("modality", pd.Categorical(["rna", "prot", "rna"]), 1),
        ("feature_types", ["Peaks", "Peaks", "Peaks"], 0),  # no genes at all: pairs of peaks are what is asked for
        ("feature_types", [1.0, 2.0, None], 0),
        ("gene_type", ["protein_coding", "lncRNA", "protein_coding"], 0),
    ],
)
def test_types_of_features_tell(column: str, types: object, left: int) -> None:
    found = no_genes(["A", "B", "C"], pd.DataFrame({column: types}))
    assert sum(map(bool, found)) == left
    assert all(kind.startswith("features of the type ") for kind in found if kind)


def test_what_is_left_out_is_said_with_counts_and_names() -> None:
    names = ["ERCC-00002", "A", "__ambiguous", "ERCC-00003", "ERCC-00004", "ERCC-00009"]
    said = in_words(no_genes(names, table(6)), names)
    assert said == "spike-ins (4: ERCC-00002, ERCC-00003, ERCC-00004, …), counters of reads (1: __ambiguous)"
