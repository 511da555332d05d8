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

OPS = "integration_tests.differential.ops"
DERIVATIVES = "integration_tests.differential.derivatives"
EMPTIES = "integration_tests.differential.empties"
EVALUATIONS = "integration_tests.differential.evaluations"
MODELS = "integration_tests.differential.models"
CHAINS = "integration_tests.differential.chains"
LAYERS = "integration_tests.differential.layers"
POLICIES = "integration_tests.differential.policies"
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_ops(part):
    specs = dict(list(ops.SPECS.items())[part::PARTS])
    cases = harness.draw(specs, 1600 // PARTS, seed=0)
    findings = harness.find(OPS, specs, cases)
    assert not findings, "\n" + harness.report(findings)


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
    specs = dict(list(layers.SPECS.items())[part::PARTS])
    cases = harness.draw(specs, 2 * len(specs), seed=0)
    findings = harness.find(LAYERS, specs, cases)
    assert not findings, "\n" + harness.report(findings)


@pytest.mark.parametrize("part", range(PARTS))
def test_derivatives(part):
    specs = dict(list(derivatives.SPECS.items())[part::PARTS])
    cases = harness.draw(specs, len(specs), seed=0)
    findings = harness.find(DERIVATIVES, specs, cases)
    assert not findings, "\n" + harness.report(findings)


def test_chains():
    cases = harness.draw(chains.SPECS, 200, seed=0)
    findings = harness.find(CHAINS, chains.SPECS, cases)
    assert not findings, "\n" + harness.report(findings)


def test_models():
    cases = harness.draw(models.SPECS, 60, seed=0)
    findings = harness.find(MODELS, models.SPECS, cases)
    assert not findings, "\n" + harness.report(findings)


def test_policies():
    names = ["mixed_model", "quantised_model", *list(layers.SPECS)[::12]]
    specs = {name: policies.SPECS[name] for name in names}
    cases = harness.draw(specs, len(specs), seed=0)
    findings = harness.find(POLICIES, specs, cases)
    assert not findings, "\n" + harness.report(findings)


def test_empties():
    specs = dict(list(empties.SPECS.items())[::6])
    cases = harness.draw(specs, len(specs), seed=0)
    findings = harness.find(EMPTIES, specs, cases)
    assert not findings, "\n" + harness.report(findings)


def test_evaluations():
    cases = harness.draw(evaluations.SPECS, 12, seed=0)
    findings = harness.find(EVALUATIONS, evaluations.SPECS, cases)
    assert not findings, "\n" + harness.report(findings)


def test_every_layer_is_drawn():
    classes = {n: x for n, x in vars(keras.layers).items() if type(x) is type}
    known = {classes[name] for name in {*layers.SPECS, *layers.LEFT_OUT}}
    assert {name for name, x in classes.items() if x not in known} == set()
