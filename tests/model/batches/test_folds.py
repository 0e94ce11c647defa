"""No test pair has been seen in training: not its mirror, and under `both` not even one of its genes."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_fixtures import make_pairs
from pairscape.model.batches import folds as folds_module
from pairscape.model.batches.folds import TEST, TRAIN, UNUSED, VALIDATION, Folds, assign_folds, mirror_groups
from pairscape.model.options import Splitting
from pairscape.pipeline.genes.pairs import all_pairs

SPLITS = ("pair", "regulator", "target", "both")
N_GENES = 12


@st.composite
def pair_tables(draw):
    """Pairs as users list them: repeated, mirrored with the same label or as 1 and 2, some unlabelled."""
    genes = st.integers(0, N_GENES - 1)
    rows = draw(st.lists(st.tuples(genes, genes, st.integers(-1, 2)).filter(lambda r: r[0] != r[1]), min_size=1))
    turned = {1: 2, 2: 1} if draw(st.booleans()) else {}
    mirrors = [(b, a, turned.get(label, label)) for a, b, label in draw(st.lists(st.sampled_from(rows)))]
    repeats = draw(st.lists(st.sampled_from(rows), max_size=5))
    return make_pairs(*zip(*draw(st.permutations(rows + mirrors + repeats)), strict=True))


def splittings(split):
    share = st.floats(0.01, 0.49)
    return st.builds(Splitting, st.just(split), share, share)


def sides(pairs, rows):
    """Regulators and targets of rows; in a pair of label 2, gene_b is the regulator."""
    a, b, back = pairs.gene_a[rows], pairs.gene_b[rows], pairs.label[rows] == 2
    return set(np.where(back, b, a).tolist()), set(np.where(back, a, b).tolist())


def check_no_leak(pairs, folds, split):
    """Labelled pairs only, mirrors in one fold, and no gene of the held-out side in two."""
    parts = {fold: np.flatnonzero(folds == fold) for fold in (TRAIN, VALIDATION, TEST)}
    used = np.flatnonzero(folds != UNUSED)
    assert set(np.unique(folds)) <= {UNUSED, TRAIN, VALIDATION, TEST}
    assert (pairs.label[used] >= 0).all()
    fold_of = {}
    for row in used:
        pair = frozenset((int(pairs.gene_a[row]), int(pairs.gene_b[row])))
        assert fold_of.setdefault(pair, folds[row]) == folds[row], "a mirror sits in another fold"
    if split == "pair":
        return
    seen, held_out = sides(pairs, parts[TRAIN]), sides(pairs, parts[TEST])
    watched = sides(pairs, parts[VALIDATION])
    if split == "both":
        seen, held_out, watched = ((s[0] | s[1],) for s in (seen, held_out, watched))
        assert not watched[0] & held_out[0]
    side = 1 if split == "target" else 0
    assert not seen[side] & held_out[side]
    if split != "both":
        assert not watched[side] & (seen[side] | held_out[side])


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_split_leaks(split, data):
    pairs, splitting = data.draw(pair_tables()), data.draw(splittings(split))
    folds = assign_folds(pairs, N_GENES, splitting, data.draw(st.integers(0, 9)))
    check_no_leak(pairs, folds, split)
    if split == "pair":
        assert (folds != UNUSED).sum() == (pairs.label >= 0).sum()


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_follows_from_its_seed(split):
    pairs = all_pairs(40)
    pairs.label[:] = 0
    first, again, other = (assign_folds(pairs, 40, Splitting(split), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_shares_under_both_are_shares_of_the_genes():
    pairs = all_pairs(40)
    pairs.label[:] = 0
    folds = assign_folds(pairs, 40, Splitting("both", 0.3, 0.1), seed=0)
    count = {fold: int((folds == fold).sum()) for fold in (TRAIN, VALIDATION, TEST, UNUSED)}
    # 24 training genes, 4 for validation, 12 for the test
    assert count == {TRAIN: 24 * 23 // 2, VALIDATION: 28 * 27 // 2 - 24 * 23 // 2, TEST: 12 * 11 // 2, UNUSED: 28 * 12}


@pytest.mark.parametrize(("split", "side"), [("regulator", 0), ("target", 1)])
def test_shares_of_a_one_sided_split_are_shares_of_that_side(split, side):
    regulator, target = np.repeat(np.arange(10), 30), np.tile(np.arange(10, 40), 10)
    pairs = make_pairs(regulator, target, np.zeros(300))
    folds = assign_folds(pairs, 40, Splitting(split, 0.2, 0.1), seed=0)
    genes = {fold: len(sides(pairs, np.flatnonzero(folds == fold))[side]) for fold in (TRAIN, VALIDATION, TEST)}
    total = (10, 30)[side]
    assert genes == {TRAIN: total * 7 // 10, VALIDATION: total // 10, TEST: total * 2 // 10}
    assert (folds != UNUSED).all()


def test_shares_under_pair_are_shares_of_the_unordered_pairs():
    once = all_pairs(30)
    pairs = make_pairs([*once.gene_a, *once.gene_b], [*once.gene_b, *once.gene_a], [1] * 435 + [2] * 435)
    folds = assign_folds(pairs, 30, Splitting("pair", 0.2, 0.1), seed=1)
    count = {fold: int((folds == fold).sum()) for fold in (TRAIN, VALIDATION, TEST)}
    assert count == {TEST: 2 * 87, VALIDATION: 2 * 44, TRAIN: 2 * (435 - 87 - 44)}
    np.testing.assert_array_equal(folds[:435], folds[435:])


@pytest.mark.parametrize("split", SPLITS)
def test_unlabelled_pairs_take_no_share(split):
    """All candidates of a matrix, of which a few genes' pairs are labelled: those few are split as asked."""
    pairs = all_pairs(200)
    labelled = pairs.gene_b < 20
    pairs.label[labelled] = 0
    folds = assign_folds(pairs, 200, Splitting(split, 0.3, 0.1), seed=0)
    alone = pairs.take(np.flatnonzero(labelled))
    expected = assign_folds(alone, 200, Splitting(split, 0.3, 0.1), seed=0)
    np.testing.assert_array_equal(folds[labelled], expected)


@pytest.mark.parametrize("split", SPLITS)
def test_a_handful_of_pairs_is_split_without_fuss(split):
    for n_genes in (2, 3, 4):
        pairs = all_pairs(n_genes)
        pairs.label[:] = 1
        assert assign_folds(pairs, n_genes, Splitting(split), seed=0).shape == (len(pairs),)


def test_mirror_groups_number_the_unordered_pairs():
    pairs = make_pairs([0, 3, 1, 3, 0], [3, 0, 2, 2, 3], [0] * 5)
    group = mirror_groups(pairs, 4)
    assert group[0] == group[1] == group[4]
    assert set(group.tolist()) == {0, 1, 2}


def test_a_third_class_is_told_from_the_labels():
    none = np.zeros(0, np.int64)
    for label, classes in (([0, 1], 2), ([0, 1, -1], 2), ([0, 1, 2], 3)):
        assert (
            Folds(make_pairs(range(len(label)), range(1, len(label) + 1), label), none, none, none, True).classes
            == classes
        )


# ---------------------------------------------------------------- cross-validation


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_fold_of_a_cross_validation_leaks(split, data):
    pairs, n_folds, seed = data.draw(pair_tables()), data.draw(st.integers(2, 6)), data.draw(st.integers(0, 9))
    groups = []
    for fold in range(n_folds):
        splitting = Splitting(split, validation_share=0.1, folds=n_folds, fold=fold)
        folds = assign_folds(pairs, N_GENES, splitting, seed)
        check_no_leak(pairs, folds, split)
        np.testing.assert_array_equal(folds, assign_folds(pairs, N_GENES, splitting, seed))
        groups.append(folds == TEST)
    tested = np.sum(groups, axis=0)
    assert tested.max(initial=0) <= 1, "a pair is tested twice"
    if split == "pair":
        np.testing.assert_array_equal(tested, (pairs.label >= 0).astype(int))


@pytest.mark.parametrize(("split", "side"), [("regulator", 0), ("target", 1)])
def test_every_gene_of_the_held_out_side_is_tested_once(split, side):
    regulator, target = np.repeat(np.arange(10), 30), np.tile(np.arange(10, 40), 10)
    pairs = make_pairs(regulator, target, np.zeros(300))
    total = (10, 30)[side]
    tested = []
    for fold in range(5):
        folds = assign_folds(pairs, 40, Splitting(split, folds=5, fold=fold), seed=0)
        genes = {part: sides(pairs, np.flatnonzero(folds == part))[side] for part in (TRAIN, VALIDATION, TEST)}
        assert [len(genes[part]) for part in (TEST, VALIDATION)] == [total // 5, total // 10]
        tested += sorted(genes[TEST])
    assert sorted(tested) == list(range(side * 10, side * 10 + total))


def test_folds_under_both_test_the_pairs_within_each_group():
    """1 in K of all pairs in all, as those between two groups have a gene in training whichever is held out."""
    pairs = all_pairs(40)
    pairs.label[:] = 0
    tested = [
        int((assign_folds(pairs, 40, Splitting("both", folds=4, fold=fold), seed=0) == TEST).sum()) for fold in range(4)
    ]
    assert tested == [10 * 9 // 2] * 4


def test_groups_of_a_cross_validation_have_their_share_of_the_hubs():
    """Ten genes of 50 hold all positives: dealt without strata, a group of ten would often get none or five."""
    regulator, target = np.repeat(np.arange(50), 20), np.tile(np.arange(50, 70), 50)
    pairs = make_pairs(regulator, target, regulator < 10)
    for seed in range(10):
        for fold in range(5):
            folds = assign_folds(pairs, 70, Splitting("regulator", folds=5, fold=fold), seed)
            hubs = set(regulator[(folds == TEST) & (regulator < 10)].tolist())
            assert len(hubs) == 2


@pytest.mark.parametrize("split", SPLITS)
def test_folds_do_not_depend_on_how_many_pairs_are_looked_at_together(split, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 30, (2, 700))
    pairs = make_pairs(a[a != b], b[a != b], rng.integers(-1, 3, int((a != b).sum())))
    for splitting in (Splitting(split), Splitting(split, folds=3, fold=2)):
        whole = assign_folds(pairs, 30, splitting, seed=4)
        with monkeypatch.context() as patch:
            patch.setattr(folds_module, "BLOCK", 37)
            np.testing.assert_array_equal(assign_folds(pairs, 30, splitting, seed=4), whole)


SAME_FOLDS = {
    "pair": "1e167a63035341bf",
    "regulator": "971283316342798b",
    "target": "d29ee3cb0a563cb2",
    "both": "3eb30bf7bbd371da",
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_gives_the_folds_that_it_gave_in_the_first_release(split):
    """Runs are repeated from their recipe and seed alone: hashes of the folds as version 0.1.0 dealt them."""
    rng = np.random.default_rng(11)
    a, b = rng.integers(0, 60, (2, 3000))
    pairs = make_pairs(a[a != b], b[a != b], rng.choice([-1, 0, 0, 0, 1, 2], int((a != b).sum())))
    folds = assign_folds(pairs, 60, Splitting(split), seed=5)
    assert hashlib.sha256(folds.tobytes()).hexdigest()[:16] == SAME_FOLDS[split]


def test_equal_folds_have_an_equal_hash_and_others_have_not():
    pairs, rows = make_pairs([0, 1, 2], [1, 2, 3], [0, 1, 0]), [np.array([i]) for i in range(3)]
    one = Folds(pairs, *rows, False)
    assert one.content_hash() == Folds(pairs, *[part.astype(np.int32) for part in rows], True).content_hash()
    assert one.content_hash() != Folds(pairs, rows[1], rows[0], rows[2], False).content_hash()


@pytest.mark.parametrize(("options", "words"), [
    ({"split": "gene"}, ["'gene'", "pair, regulator, target, both, file"]),
    ({"split": "file"}, ["--fold-file"]),
    ({"split": "pair", "fold_file": "folds.csv"}, ["folds.csv", "--split file"]),
    ({"folds": 1}, ["folds is 1", "2 to 1000"]),
    ({"folds": 2000}, ["2000"]),
    ({"folds": 2, "validation_share": 0.5}, ["one of 2 folds", "0.5", "below 1"]),
    ({"test_share": 0.9}, ["0.9", "below 1"]),
    ({"fold": 1}, ["fold is 1", "--folds"]),
    ({"folds": 3, "fold": 3}, ["fold is 3", "0 to 2"]),
    ({"folds": 3, "fold": -1}, ["fold is -1", "0 to 2"]),
])  # fmt: skip
def test_splits_that_cannot_be_are_refused(options, words, refuses):
    with refuses(*words):
        Splitting(**options)
