"""Files as users keep them: what is understood, and what is refused in one line."""

import gzip

import numpy as np
import pytest

from pairscape.pipeline.genes.lists import read_gene_map, read_genes, read_network, read_pairs


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "list.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("content", [
    "GATA1\nSPI1\nTAL1\n",
    "GATA1\nSPI1\nTAL1",
    "\n\nGATA1\n\n  \nSPI1\n \t \nTAL1\n\n",
    "\ufeffGATA1\r\nSPI1\r\nTAL1\r\n",
    "  GATA1\nSPI1  \nTAL1\n",
    '"GATA1"\n"SPI1"\n"TAL1"\n',
    "TF\nGATA1\nSPI1\nTAL1\n",
    "gene\nGATA1\nSPI1\nTAL1\n",
    "\ufeffSymbol\r\nGATA1\r\nSPI1\r\nTAL1\r\n",
    ",TF,index\n0,GATA1,7\n1,SPI1,8\n2,TAL1,9\n",
    "gene_id\tname\nGATA1\tx\nSPI1\ty\nTAL1\tz\n",
    "GATA1\t2623\nSPI1\t6688\nTAL1\t6886\n",
    "GATA1 2623\nSPI1 6688\nTAL1 6886\n",
    "GATA1\nSPI1\nGATA1\nTAL1\nSPI1\n",
])  # fmt: skip
def test_lists_of_genes(content, file):
    assert read_genes(file(content)) == ["GATA1", "SPI1", "TAL1"]


def test_names_that_look_like_nothing_or_numbers_stay_names(file):
    names = ["NA", "nan", "null", "TRUE", "1", "007", "1e5"]
    assert read_genes(file("\n".join(["gene", *names]))) == names


PAIRS = [
    "GATA1,KLF1\nspi1,Csf1r\n",
    "GATA1\tKLF1\nspi1\tCsf1r\n",
    "GATA1 KLF1\nspi1   Csf1r \n",
    "\ufeffGATA1,KLF1\r\n\r\nspi1,Csf1r\r\n",
    '"GATA1","KLF1"\n"spi1","Csf1r"\n',
    "GATA1 , KLF1\n spi1,Csf1r\n",
    "Gene1,Gene2\nGATA1,KLF1\nspi1,Csf1r\n",
    "Gene1,Gene2,Type\nGATA1,KLF1,+\nspi1,Csf1r,-\n",
    "gene_a,gene_b\nGATA1,KLF1\nspi1,Csf1r\n",
    "GENE_B\tGENE_A\nKLF1\tGATA1\nCsf1r\tspi1\n",
    "TF\ttarget\timportance\nGATA1\tKLF1\t9.5\nspi1\tCsf1r\t2\n",
    "source,target,weight\nGATA1,KLF1,-1\nspi1,Csf1r,1\n",
    ",geneA,geneB\n0,GATA1,KLF1\n1,spi1,Csf1r\n",
    '"Regulator"\t"Target"\n"GATA1"\t"KLF1"\n"spi1"\t"Csf1r"\n',
]


@pytest.mark.parametrize("content", PAIRS)
def test_pairs_without_labels(content, file):
    found = read_pairs(file(content))
    assert list(zip(found.gene_a, found.gene_b, strict=True)) == [("GATA1", "KLF1"), ("spi1", "Csf1r")]
    assert found.label is None


WEIGHTED = ["GATA1\tKLF1\t0.53\nspi1\tCsf1r\t-7\n", "GATA1,KLF1,activation\nspi1,Csf1r,\n"]


@pytest.mark.parametrize("content", [*PAIRS, *WEIGHTED])
def test_edges(content, file):
    found = read_network(file(content))
    assert list(zip(found.gene_a, found.gene_b, strict=True)) == [("GATA1", "KLF1"), ("spi1", "Csf1r")]
    assert found.label is None


@pytest.mark.parametrize("content", [
    "gata1\tklf1\t1\nspi1\tcsf1r\t0\nklf1\tgata1\t2\nx\ty\t-1\n",
    "gata1 klf1 1\nspi1 csf1r 0\nklf1 gata1 2\nx y -1\n",
    "gata1,klf1,1.0\nspi1,csf1r,0.0\nklf1,gata1,2.0\nx,y,-1.0\n",
    "gene_a,gene_b,label,score\ngata1,klf1,1,0.1\nspi1,csf1r,0,0.2\nklf1,gata1,2,0.3\nx,y,-1,0.4\n",
    "\ufeffLabel,Gene1,Gene2\r\n1,gata1,klf1\r\n0,spi1,csf1r\r\n2,klf1,gata1\r\n-1,x,y\r\n",
])  # fmt: skip
def test_pairs_with_labels(content, file):
    found = read_pairs(file(content))
    assert found.gene_a == ["gata1", "spi1", "klf1", "x"]
    assert found.gene_b == ["klf1", "csf1r", "gata1", "y"]
    np.testing.assert_array_equal(found.label, [1, 0, 2, -1])
    assert found.label.dtype == np.int8


@pytest.mark.parametrize(("content", "columns"), [
    ("Gene1,Gene2,Type\nGATA1,KLF1,+\n", "columns 'gene1', 'gene2'"),
    ("Gene1,Gene2,Score\nGATA1,KLF1,171\n", "columns 'gene1', 'gene2'"),
    ("Gene1\tGene2\tEdgeWeight\nGATA1\tKLF1\t0.4\n", "columns 'gene1', 'gene2'"),
    ("source,target,weight,resources,references,sign_decision\nGATA1,KLF1,-1.0,x;y,1;2,PMID\n",
     "columns 'source', 'target'"),
    ("source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_directed\nP15976\tQ13351\tGATA1\tKLF1\t1\n",
     "columns 'source_genesymbol', 'target_genesymbol'"),
    ("TF,gene,importance\nGATA1,KLF1,3\n", "columns 'tf', 'gene'"),
    ("GATA1\tKLF1\tActivation\t123;456\n", "columns 1, 2 (no header)"),
    ("GATA1\tKLF1\tUnknown\t123\n", "columns 1, 2 (no header)"),
    ("source,target,weight\nGATA1,KLF1,-1\nGATA1,TAL1,0\n", "columns 'source', 'target', 1 of weight 0 left out"),
    ("GATA1 KLF1 1\n", "columns 1, 2 (no header)"),
])  # fmt: skip
def test_networks_as_their_makers_write_them(content, columns, file):
    found = read_network(file(content))
    assert (found.gene_a, found.gene_b, found.columns) == (["GATA1"], ["KLF1"], columns)


@pytest.mark.parametrize("read", [read_pairs, read_network])
@pytest.mark.parametrize("first", ["TF,HFE", "TF,TF", "HFE,TF", "TF,1"])
def test_transferrin_is_a_gene_and_no_header(read, first, file):
    found = read(file(f"{first}\nKLF1,SPI1\n"))
    assert (found.gene_a[0], found.gene_b[0]) == tuple(first.split(","))
    assert len(found.gene_a) == 2


def test_the_columns_of_triples(file):
    assert read_pairs(file("a b 1\n")).columns == "columns 1, 2, 3 (no header)"
    assert read_pairs(file("label,gene_a,gene_b\n1,a,b\n")).columns == "columns 'gene_a', 'gene_b', 'label'"


def test_a_map_of_genes(file):
    assert read_gene_map(file("ins2 16334\ntmsb4x 19241\n")) == [("ins2", "16334"), ("tmsb4x", "19241")]
    assert read_gene_map(file("symbol,id\nins2,16334\nx,\n")) == [("symbol", "id"), ("ins2", "16334")]


@pytest.mark.parametrize(("read", "content", "words"), [
    (read_genes, "", ["is empty"]),
    (read_genes, " \n\t\n\n", ["is empty"]),
    (read_genes, "\ufeff", ["is empty"]),
    (read_genes, b"\x1f\x8b\x08\x00\xff\xfe", ["cannot be read as a text table"]),
    (read_genes, "Müller\n".encode("latin-1"), ["cannot be read as a text table"]),
    (read_genes, '"GATA1\nSPI1\n', ["cannot be read as a text table"]),
    (read_genes, "Gene1,Gene2\na,b\n", ["gene1", "none known to hold genes"]),
    (read_pairs, "GATA1\nSPI1\n", ["two with genes are needed"]),
    (read_genes, "GATA1,SPI1,MYB,KLF1\n", ["one row of 4 names", "one gene a line"]),
    (read_pairs, "GATA1|KLF1\n", ["two with genes are needed"]),
    (read_pairs, "TF,label\nGATA1,1\n", ["'tf', 'label'", "two with genes are needed"]),
    (read_pairs, "gene_a,gene_b\n", ["no pair below its header"]),
    (read_pairs, "a,b\nc,d,1\n", ["cannot be read as a text table", "line 2"]),
    (read_pairs, "a,b\nc\n", ["row 2"]),
    (read_pairs, "gene_a,gene_b\na,b\n,d\n", ["row 2"]),
    (read_pairs, "gene1,gene2,gene2\na,b,c\n", ["'gene2' twice"]),
    (read_pairs, "a,b,1\nc,d,3\n", ["'3'", "row 2", "-1 (unlabelled)"]),
    (read_pairs, "a,b,1\nc,d,\n", ["''", "row 2"]),
    (read_pairs, "a,b,0.53\n", ["'0.53'", "row 1"]),
    (read_pairs, "a,b,label\nc,d,1\n", ["two with genes are needed"]),
    (read_pairs, "gene_a,gene_b,label\na,b,yes\n", ["'yes'", "row 1"]),
    (read_network, "GATA1\n", ["['GATA1']", "two with genes are needed"]),
    (read_network, "source,target\n", ["holds no edges"]),
    (read_network, "source,target\na,\n", ["row 1"]),
    (read_network, "source,target,weight\na,b,0\n", ["holds no edges"]),
    (read_network, "a,b,1\nb,a,2\na,c,0\n", ["only labels", "--pairs"]),
    (read_network, "gene_a,gene_b,label\na,b,1\nc,d,0\n", ["only labels", "--pairs"]),
    (read_network, "from,to,strength\na,b,0.5\nc,d,1\n", ["['from', 'to', 'strength']", "looks like a header"]),
    (read_network, "TF,source,target\na,b,c\n", ["'tf' and 'source'", "cannot be told"]),
    (read_pairs, "gene1,gene2,target\na,b,c\n", ["'gene2' and 'target'", "cannot be told"]),
    (read_pairs, "STAT3\tTET2\tActivation\t123\n", ["'Activation'", "--network"]),
    (read_gene_map, "a\nb\n", ["1 columns", "two"]),
    (read_gene_map, "a,1,x\n", ["3 columns", "two"]),
    (read_gene_map, "", ["is empty"]),
])  # fmt: skip
def test_bad_files_are_refused_in_one_line(read, content, words, file, refuses):
    path = file(content)
    with refuses(str(path), *words):
        read(path)


@pytest.mark.parametrize("read", [read_genes, read_pairs, read_network, read_gene_map])
def test_a_missing_file_is_refused(read, tmp_path, refuses):
    for path in (tmp_path / "absent.csv", tmp_path):
        with refuses(str(path), "no such file"):
            read(path)


@pytest.mark.parametrize("content", [
    "# from Lambert 2018\nGATA1\nSPI1\n",
    "#from Lambert 2018\n\n# TF names\nGATA1\n# and\nSPI1\n",
    "gene\n#GATA2\nGATA1\nSPI1\n",
    "#TF\nGATA1\nSPI1\n",
    "#gene,note\nGATA1,a\nSPI1,b\n",
    '"GATA1"\n"SPI1"\n',
    "'GATA1'\n'SPI1'\n",
    '"","x"\n"1","GATA1"\n"2","SPI1"\n',
    '"x"\n"1" "GATA1"\n"2" "SPI1"\n',
    "x\n1\tGATA1\n2\tSPI1\n",
    ",TF\n0,GATA1\n1,SPI1\n",
    gzip.compress(b"GATA1\nSPI1\n", mtime=0),
])  # fmt: skip
def test_lists_with_comments_quotes_and_row_numbers(content, tmp_path):
    zipped = isinstance(content, bytes)
    path = tmp_path / ("list.txt.gz" if zipped else "list.txt")
    path.write_bytes(content if zipped else content.encode())
    assert read_genes(path) == ["GATA1", "SPI1"]


@pytest.mark.parametrize(("content", "ranked", "importance"), [
    ("TF,target,importance\nA,B,3.5\nA,C,1e-3\n", "importance", [3.5, 0.001]),
    ("TF\ttarget\timportance\nA\tB\t3\nA\tC\t1\n", "importance", [3, 1]),
    ("Gene1\tGene2\tEdgeWeight\nA\tB\t0.9\nA\tC\t0.1\n", "edgeweight", [0.9, 0.1]),
    ("source,target,weight\nA,B,1\nA,C,-1\n", "", None),
    ("source,target,weight\nA,B,0.4\nA,C,-0.2\n", "weight", [0.4, -0.2]),
    ("source,target,score\nA,B,9\nA,C,x\n", "", None),
    ("A,B\nA,C\n", "", None),
])  # fmt: skip
def test_what_ranks_the_edges_of_a_network(content, ranked, importance, file):
    found = read_network(file(content))
    assert found.ranked_by == ranked
    assert (None if found.importance is None else found.importance.tolist()) == importance


@pytest.mark.parametrize(("top", "threshold", "targets"), [
    (1, None, ["C"]), (2, None, ["B", "C"]), (9, None, ["B", "C", "D"]), (None, 2, ["B", "C"]), (None, 9.5, []),
])  # fmt: skip
def test_the_best_edges_of_a_ranking(top, threshold, targets, file):
    found = read_network(file("TF,target,importance\nA,B,3\nA,C,5\nA,D,1\n")).best(top, threshold)
    assert found.gene_b == targets
    assert f"{len(targets)} of 3 edges by 'importance'" in found.columns
