import itertools

import numpy as np
import pytest

from keras.src.backend.openvino import contraction
from keras.src.backend.openvino.testing import normal

SIZES = dict(zip("abcdijkl", (2, 3, 4, 5, 3, 2, 4, 2)))


def operands(labels):
    return [normal(*[SIZES[c] for c in each]) for each in labels]


@pytest.mark.parametrize(
    "subscripts, ranks, labels, output",
    [
        ("ij,jk", (2, 2), ("ij", "jk"), "ik"),
        ("ba", (2,), ("ba",), "ab"),
        ("ii->", (2,), ("ii",), ""),
        (" i j -> j i ", (2,), ("ij",), "ji"),
    ],
)
def test_equations(subscripts, ranks, labels, output):
    assert contraction.parse(subscripts, ranks) == (labels, output)


@pytest.mark.parametrize("ranks", [(2, 2), (3, 2), (4, 3), (3, 4)])
@pytest.mark.parametrize(
    "subscripts", ["...ij,...jk", "...ij,...jk->...ik", "...ij,...jk->ki..."]
)
def test_an_ellipsis_counts_from_the_last_dim(subscripts, ranks):
    (labels1, labels2), output = contraction.parse(subscripts, ranks)
    assert list(map(len, (labels1, labels2))) == list(ranks)
    hidden1, hidden2 = labels1[:-2], labels2[:-2]
    shortest = min(len(hidden1), len(hidden2))
    assert (
        hidden1[len(hidden1) - shortest :]
        == (hidden2[len(hidden2) - shortest :])
    )
    longest = max(hidden1, hidden2, key=len)
    assert output in (longest + "ik", "ki" + longest)


@pytest.mark.parametrize(
    "subscripts, ranks",
    [
        ("ij,jk", (2,)),
        ("ij", (3,)),
        ("ijk", (2,)),
        ("...ij", (1,)),
        ("i->k", (1,)),
        ("i->ii", (1,)),
        ("i1->i", (2,)),
        ("i->i->i", (1,)),
    ],
)
def test_malformed_equations(subscripts, ranks):
    with pytest.raises(ValueError, match="`einsum` got"):
        contraction.parse(subscripts, ranks)


@pytest.mark.parametrize(
    "equation",
    ["ij,jk->ik", "aij,ajk->aik", "i,i->", "ij,j->i", "ijk,kl->ijl"]
    + ["ij,jk->ki", "ij,kj->ik", "ji,jk->ik", "aij,bjk->aik", "i,j->ij"]
    + ["aij,aj->ai", "i,ij->j", "ij,ij->ij", "ab,bc->c"],
)
def test_what_is_a_matmul_as_it_is(equation):
    labels, output = equation.split("->")
    labels = labels.split(",")
    x1, x2 = operands(labels)
    if not contraction.is_matmul(equation, (x1.ndim, x2.ndim)):
        return
    expected = np.einsum(equation, x1, x2)
    np.testing.assert_allclose(np.matmul(x1, x2), expected, rtol=1e-5)


def test_the_usual_products_are_matmuls():
    for equation in ("ij,jk->ik", "aij,ajk->aik", "ijk,kl->ijl", "i,i->"):
        labels = equation.split("->")[0].split(",")
        assert contraction.is_matmul(equation, tuple(map(len, labels)))


@pytest.mark.parametrize("labels", itertools.permutations(("ab", "bc", "cd")))
def test_the_cheapest_pair_is_first(labels):
    sizes = {"a": 100, "b": 2, "c": 100, "d": 1}
    shapes = [tuple(sizes[c] for c in each) for each in labels]
    (first, second), last = contraction.order(labels, shapes, "ad")
    assert {labels[first], labels[second]} == {"bc", "cd"}
    assert sorted(last) == [0, 1]


def test_dims_that_are_not_known_have_an_order():
    labels = ("ab", "bc", "cd")
    order = contraction.order(labels, [(None, 3), (3, None), (None, 4)], "ad")
    assert len(order) == 2


@pytest.mark.parametrize(
    "labels1, labels2, needed",
    [("aij", "ajk", "aik"), ("ij", "jk", "ki"), ("ij", "kl", "ijkl")]
    + [("aij", "ija", "a"), ("ij", "jk", "kid"), ("i", "i", "")],
)
def test_each_label_has_one_part(labels1, labels2, needed):
    plan = contraction.plan(labels1, labels2, needed)
    first, second = (labels2, labels1)[:: 1 if plan.swapped else -1]
    assert set(plan.batch) == set(labels1) & set(labels2) & set(needed)
    assert set(plan.inner) == set(labels1) & set(labels2) - set(needed)
    assert set(plan.free1) == (set(first) - set(second)) & set(needed)
    assert set(plan.free2) == (set(second) - set(first)) & set(needed)
    x1, x2 = operands((first, second))
    result = plan.batch + plan.free1 + plan.free2
    # Nothing is lost but what nobody needs.
    product = np.einsum(f"{first},{second}->{result}", x1, x2)
    assert product.ndim == len(set(result))
