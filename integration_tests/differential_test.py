"""Ops, layers, models, derivatives and more: eager, compiled, with open dims.

Cases are drawn at random.

The longer run, with other cases for every seed, is

    python -m integration_tests.differential --cases 6700 --seed 7

which prints the differences by op or layer with the least call that shows each.
"""

import inspect
import os

import pytest

pytest.importorskip("jax")

import keras
from integration_tests.differential import chains
from integration_tests.differential import derivatives
from integration_tests.differential import empties
from integration_tests.differential import evaluations
from integration_tests.differential import harness
from integration_tests.differential import layers
from integration_tests.differential import models
from integration_tests.differential import ops
from integration_tests.differential import policies

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "openvino"
    or os.environ.get("KERAS_VINO") == "0",
    reason="compares this backend with another",
)

PARTS = 8


def check(table, count, specs=None):
    """Draws and compares `count` cases of a table, or of some of its specs."""
    specs = table.SPECS if specs is None else specs
    cases = harness.draw(specs, count, seed=0)
    findings = harness.find(table.__name__, specs, cases)
    assert not findings, "\n" + harness.report(findings)


def every(step, table, start=0):
    return dict(list(table.SPECS.items())[start::step])


@pytest.mark.parametrize("part", range(PARTS))
def test_ops(part):
    check(ops, 1600 // PARTS, every(PARTS, ops, part))


def test_no_op_is_missing():
    names = public(keras.ops)
    names |= {
        f"image.{name}"
        for name in public(keras.ops.image)
        if not hasattr(keras.ops, name)
    }
    names |= {f"random.{name}" for name in public(keras.random)}
    assert names == set(ops.SPECS)


def public(module):
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


@pytest.mark.parametrize("part", range(PARTS))
def test_layers(part):
    specs = every(PARTS, layers, part)
    check(layers, 2 * len(specs), specs)


@pytest.mark.parametrize("part", range(PARTS))
def test_derivatives(part):
    specs = every(PARTS, derivatives, part)
    check(derivatives, len(specs), specs)


@pytest.mark.parametrize(
    "table, count", [(chains, 200), (models, 60), (evaluations, 12)]
)
def test_whole_tables(table, count):
    check(table, count)


def test_policies():
    names = ["mixed_model", "quantised_model", *every(12, layers)]
    specs = {name: policies.SPECS[name] for name in names}
    check(policies, len(specs), specs)


def test_empties():
    specs = every(6, empties)
    check(empties, len(specs), specs)


def test_every_layer_is_drawn():
    classes = {n: x for n, x in vars(keras.layers).items() if type(x) is type}
    known = {classes[name] for name in {*layers.SPECS, *layers.LEFT_OUT}}
    assert {name for name, x in classes.items() if x not in known} == set()
