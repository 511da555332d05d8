import concurrent.futures

import pytest

from keras.src.backend.openvino.specialise import UnknownDim
from keras.src.backend.openvino.specialise import Variants


class Variant:
    def __init__(self, shapes, nbytes=1):
        self.shapes = shapes
        self.nbytes = nbytes
        self.current = True

    def is_current(self):
        return self.current


@pytest.fixture
def compiled():
    return []


@pytest.fixture
def compile(compiled):
    def compile(shapes):
        compiled.append(shapes)
        return Variant(shapes)

    return compile


def test_dims_that_vary_become_dynamic(compile, compiled):
    variants = Variants(8, 100)
    for size in (2, 3, 4, 2):
        variants.get("a", [(size, 5), (5,)], compile)
    assert compiled == [[(2, 5), (5,)], [(None, 5), (5,)]]


def test_graphs_are_kept_apart(compile, compiled):
    variants = Variants(8, 100)
    first = variants.get("a", [(2,)], compile)
    second = variants.get("b", [(2,)], compile)
    assert first is not second
    assert variants.get("a", [(2,)], compile) is first
    assert len(compiled) == len(variants) == 2


def test_the_least_recently_used_are_let_go(compile, compiled):
    variants = Variants(2, 100)
    first = variants.get("a", [(1,)], compile)
    variants.get("b", [(1,)], compile)
    assert variants.get("a", [(1,)], compile) is first
    variants.get("c", [(1,)], compile)
    assert len(variants) == 2
    assert variants.get("a", [(1,)], compile) is first
    assert len(compiled) == 3
    variants.get("b", [(1,)], compile)
    assert len(compiled) == 4


def test_those_of_one_graph_are_let_go_too(compile):
    variants = Variants(3, 100)
    for size in range(10):
        variants.get("a", [(size,)], compile, patterns=lambda shapes: [shapes])
    assert sorted(v.shapes for v in variants) == [[(7,)], [(8,)], [(9,)]]


def test_bytes_are_bounded_but_for_the_latest():
    variants = Variants(9, 100)
    for key, nbytes in (("a", 60), ("b", 40), ("c", 1), ("d", 500)):
        variants.get(key, [()], lambda shapes, n=nbytes: Variant(shapes, n))
        held = [variant.nbytes for variant in variants]
        assert sum(held) <= 100 or held == [500]
    assert held == [500]


def test_what_is_out_of_date_is_compiled_anew_and_let_go(compile):
    variants = Variants(8, 100)
    old = variants.get("a", [(1,)], compile)
    other = variants.get("b", [(1,)], compile)
    old.current = other.current = False
    assert variants.get("a", [(1,)], compile) is not old
    assert len(variants) == 1


def test_a_dim_that_has_to_be_known_is_compiled_as_it_is():
    compiled = []

    def compile(shapes):
        compiled.append(shapes)
        if shapes[0][0] is None:
            raise UnknownDim("the first dim has to be known")
        return Variant(shapes)

    variants = Variants(8, 100)
    for size in (2, 3, 2, 3):
        variants.get("a", [(size,)], compile, patterns=lambda _: [[(None,)]])
    assert compiled == [[(None,)], [(2,)], [(3,)]]


def test_other_errors_are_not_tried_again():
    compiled = []

    def compile(shapes):
        compiled.append(shapes)
        raise ValueError("something else")

    variants = Variants(8, 100)
    with pytest.raises(ValueError, match="something else"):
        variants.get("a", [(2,)], compile, patterns=lambda _: [[(None,)]])
    assert compiled == [[(None,)]]
    assert len(variants) == 0


class Emptied(list):
    """Variants that another thread lets go after they were counted."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(())


def test_variants_may_be_let_go_while_one_is_compiled(compile):
    variants = Variants(8, 100)
    variants.get("a", [(2,)], compile)
    variants._graphs["a"].variants = Emptied()
    variants._forget_stale = lambda: None
    assert variants.get("a", [(3,)], compile).shapes == [(3,)]


def test_threads_compile_a_variant_once(compile, compiled):
    variants = Variants(8, 100)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda _: variants.get("a", [(2,)], compile), range(64))
        assert len(set(got)) == len(compiled) == 1
