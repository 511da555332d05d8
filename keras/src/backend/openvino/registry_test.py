import numpy as np
import pytest

from keras.src.backend.openvino import registry


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(registry, "OPERATIONS", dict(registry.OPERATIONS))


def test_what_is_registered_is_found():
    registry.register("Twice", np.positive, work=len)
    operation = registry.find("Twice")
    assert operation.kernel is np.positive
    assert operation.work is len
    assert operation.formula is operation.rule is operation.mend is None


def test_unknown_types_have_no_traits():
    assert set(registry.find("NoSuchNode")) == {None}


def test_a_name_is_registered_once():
    registry.register("Twice")
    with pytest.raises(ValueError, match="Twice is registered already"):
        registry.register("Twice")


def test_traits_that_do_not_exist_are_refused():
    with pytest.raises(TypeError):
        registry.register("Twice", kernels=np.positive)
