"""Files as users keep them: what is understood, and what is refused in one line."""

import numpy as np
import pytest

from pipeline.lists import read_genes, read_network, read_pairs


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


@pytest.mark.parametrize(("read", "content", "words"), [
    (read_genes, "", ["is empty"]),
    (read_genes, " \n\t\n\n", ["is empty"]),
    (read_genes, "\ufeff", ["is empty"]),
    (read_genes, b"\x1f\x8b\x08\x00\xff\xfe", ["cannot be read as a text table"]),
    (read_genes, "Müller\n".encode("latin-1"), ["cannot be read as a text table"]),
    (read_genes, '"GATA1\nSPI1\n', ["cannot be read as a text table"]),
    (read_genes, "Gene1,Gene2\na,b\n", ["gene1", "none known to hold genes"]),
    (read_pairs, "GATA1\nSPI1\n", ["two with genes are needed"]),
    (read_pairs, "GATA1;KLF1\n", ["two with genes are needed"]),
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
    (read_network, "GATA1\n", ["holds no edges", "regulator, target"]),
    (read_network, "source,target\n", ["holds no edges"]),
    (read_network, "source,target\na,\n", ["row 1"]),
])  # fmt: skip
def test_bad_files_are_refused_in_one_line(read, content, words, file, refuses):
    path = file(content)
    with refuses(str(path), *words):
        read(path)


@pytest.mark.parametrize("read", [read_genes, read_pairs, read_network])
def test_a_missing_file_is_refused(read, tmp_path, refuses):
    for path in (tmp_path / "absent.csv", tmp_path):
        with refuses(str(path), "no such file"):
            read(path)
