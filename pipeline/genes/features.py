"""Names in a matrix that are no genes, and no cells: counters, spike-ins, antibodies, columns of annotations. Pure.

Such rows and columns are common in real files: HTSeq, STAR and featureCounts end their tables with counters, Smart-seq2
tables hold spike-ins, files of several modalities antibodies, tables written from notebooks a column of clusters. They
would take part in scaling every cell, and become candidates for pairs.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TYPE_COLUMNS = ("feature_types", "feature_type", "feature_biotype", "featureType", "modality")  # 10x, cellxgene, SCE
GENE_TYPES = frozenset({"geneexpression", "gene", "genes", "gex", "rna", "mrna", "expression"})

COUNTERS = re.compile(
    r"__.*|(N_|_)?(unmapped|multimapping|no_?feature|ambiguous)|too_low_aqual|not_aligned|alignment_not_unique"
    r"|unassigned_\w+|\*",
    re.I,
)
SPIKE_INS = re.compile(
    r"(.*[-_ ])?ERCC[-_.]?\d{5}.*|gspikein.*|(rna[-_ ]?)?spike[-_ ]?ins?([-_ ]?\d+)?|rna[-_ ]?spike.*"
    r"|SIRV(ome)?[-_]?\d\w*|SIRVome.*|phi-?x(174)?",
    re.I,
)
ANTIBODIES = re.compile(
    r".+[-_.]Total(Seq)?[-_]?[ABCD](\.\d+)?|.+[-_.]TotalSeq|(adt|hto|antibody|hashtag|prot)[-_:. ].+|(hto|hashtag)\d+",
    re.I,
)
# As programs and notebooks write them; a gene that is spelled just so is kept with --features all.
COLUMNS_OF_CELLS = """
n_genes n_genes_by_counts log1p_n_genes_by_counts n_counts total_counts log1p_total_counts total_counts_mt n_umi n_umis
nCount_RNA nFeature_RNA nCount_SCT nFeature_SCT nCount_ADT nFeature_ADT nUMI nGene nUMIs nGenes size_factor size_factors
percent.mt percent_mt percent.mito percent_mito pct_counts_mt mito_ratio mitoRatio percent.ribo pct_counts_ribo
louvain leiden seurat_clusters cluster clusters Cluster Clusters cluster_id ClusterID batch Batch orig.ident sizeFactor
S.Score G2M.Score S_score G2M_score doublet_score doublet_scores predicted_doublet scrublet_score cell_type celltype
UMAP_1 UMAP_2 umap_1 umap_2 UMAP1 UMAP2 tSNE_1 tSNE_2 TSNE1 TSNE2 PC_1 PC_2 CellType sample Sample sample_id donor
label labels group condition timepoint
"""
# Headings of columns that describe genes, in small letters, as featureCounts, DESeq2 and biomaRt write them.
NUMBERS_OF_GENES = """
length gene_length genelength transcript_length effectivelength effective_length start end gene_start gene_end entrezid
entrez_id entrezgene entrezgene_id gene_version exon_count
"""
WORDS_OF_GENES = """
chr chrom chromosome chromosome_name strand gene_name gene_symbol symbol external_gene_name hgnc_symbol mgi_symbol
gene_short_name gene_type gene_biotype biotype description gene_description
"""
OF_CELLS, NUMBERED = frozenset(COLUMNS_OF_CELLS.split()), frozenset(NUMBERS_OF_GENES.split())
OF_GENES = NUMBERED | frozenset(WORDS_OF_GENES.split())
OF_TABLES = re.compile(r"Unnamed: \d+|(row)?sums?|totals?|index", re.I)  # of an axis of either kind

KINDS = (("counters of reads", COUNTERS), ("spike-ins", SPIKE_INS), ("antibodies or hashtags", ANTIBODIES))


def no_genes(names: Sequence[str], annotations: pd.DataFrame) -> NDArray[np.object_]:
    """(gene,) what each row of a matrix is that is no gene, such as "spike-ins"; "" for genes.

    Parameters
    ----------
    names
        Of the genes; a symbol where there is one.
    annotations
        Columns that may tell types of features.
    """
    found = _by_type(annotations)
    for place, name in enumerate(names):
        if not found[place]:
            found[place] = _by_name(str(name), OF_CELLS, "columns of annotations")
    return found


def no_cells(names: Sequence[str]) -> NDArray[np.object_]:
    """(cell,) what each column of a matrix is that is no cell; "" for cells."""
    kind = "annotations of genes"
    named = (kind if str(name).lower() in OF_GENES or OF_TABLES.fullmatch(str(name)) else "" for name in names)
    return np.array(list(named), object)


def in_words(kinds: NDArray[np.object_], names: Sequence[str], most: int = 3) -> str:
    """How many there are of each kind, with some of their names: counters of reads (5: __no_feature, …)."""
    said = []
    for kind in dict.fromkeys(kinds[kinds != ""]):
        places = np.flatnonzero(kinds == kind)
        some = ", ".join(str(names[place]) for place in places[:most])
        said.append(f"{kind} ({places.size:,}: {some}{', …' if places.size > most else ''})")
    return ", ".join(said)


def _by_name(name: str, annotations: frozenset[str], said: str) -> str:
    if name in annotations or OF_TABLES.fullmatch(name):
        return said
    return next((kind for kind, pattern in KINDS if pattern.fullmatch(name)), "")


def _by_type(annotations: pd.DataFrame) -> NDArray[np.object_]:
    """What the types of features tell, as the file writes them; nothing where none of them is a gene's."""
    found = np.full(len(annotations), "", object)
    for column in TYPE_COLUMNS:
        if column not in annotations:
            continue
        types, known = annotations[column].astype(str), annotations[column].notna().to_numpy()
        genes = types.str.lower().str.replace(r"[^a-z]", "", regex=True).isin(GENE_TYPES).to_numpy()
        if (genes & known).any():
            said = "features of the type " + types.where(known, "").to_numpy(object)  # pandas 3 keeps what is missing
            found = np.where(genes | ~known | (found != ""), found, said)
    return found
