"""Compares outcomes, and says which differences are tolerated and why."""

from typing import Callable
from typing import NamedTuple

import numpy as np

from integration_tests.differential.cases import MODES
from integration_tests.differential.cases import Case
from integration_tests.differential.cases import arrays_of
from integration_tests.differential.cases import has_64_bits
from integration_tests.differential.cases import is_float
from integration_tests.differential.cases import limits

# Relative errors; sums and functions such as `tan` take a few units in the
# last place.
TOLERANCES = {
    "float64": 1e-10,
    "float32": 1e-5,
    "float16": 2e-3,
    "bfloat16": 1.6e-2,
    "complex64": 1e-5,
    "complex128": 1e-10,
}
NARROWER = {"int64": "int32", "uint64": "uint32", "float64": "float32"}


class Finding(NamedTuple):
    """A difference.

    Attributes:
        case: the call.
        mode: one of `MODES`.
        kind: "crash", "error", "no error", "dtype", "shape" or "value".
        what: the difference in a few words.
        got: the arrays that this backend gave.
        wanted: those of each reference.
    """

    case: Case
    mode: str
    kind: str
    what: str
    got: list = []
    wanted: list = []

    def __str__(self):
        if not self.got:
            return self.what
        wanted = "; or ".join(map(show, self.wanted))
        return f"{self.what}: got {show(self.got)}, want {wanted}"


class Tolerated(NamedTuple):
    """Differences that are the runtime's or the reference's own limits.

    Attributes:
        reason: why they stay.
        applies: takes the finding; whether it is one of them.
        names: the ops and layers it is about; all if empty.
    """

    reason: str
    applies: Callable
    names: tuple = ()


def compare(spec, case, outcomes, references):
    """The findings of a case, none that is tolerated."""
    found = []
    if isinstance(outcomes, str):
        return [Finding(case, "any", "crash", outcomes)]
    usable = [r.arrays for r in references if r.arrays is not None]
    refused = spec.refuses is not None and spec.refuses(case)
    if refused:
        usable = []
    for mode, outcome in zip(MODES, outcomes):
        if not usable and mode == "eager":
            # Nor may a compiled model give what is an error eagerly.
            refused |= outcome.arrays is None
        if refused and outcome.arrays is not None:
            finding = Finding(case, mode, "no error", "", outcome.arrays)
        else:
            finding = judge(spec, case, mode, outcome, references, usable)
        if finding and not any(
            case.name in (t.names or [case.name]) and t.applies(finding)
            for t in TOLERATED
        ):
            found.append(finding)
        if mode == "eager" and not usable and outcome.arrays is not None:
            # Compiled models are to give what eager gives at least.
            usable = [outcome.arrays]
    return found


def judge(spec, case, mode, outcome, references, usable):
    if not usable:
        return None
    got = outcome.arrays
    if got is None:
        if spec.may_raise and references[0].arrays is None:
            return None
        return Finding(case, mode, "error", outcome.error, [], usable)
    differences = [differ(spec, case, mode, got, y) for y in usable]
    if spec.check and mode == "eager":
        right = spec.check(*arrays_of(case), *got)
        differences = [None if right else ("value", "")]
    if None not in differences:
        return Finding(case, mode, *differences[0], got, usable)
    if references[0].arrays is not None:  # JAX, which knows Keras's dtypes
        wrong = dtype_difference(case, got, references[0].arrays)
        if wrong:
            return Finding(case, mode, "dtype", wrong, got, usable)
    return None


def differ(spec, case, mode, got, expected):
    if len(got) != len(expected):
        return "shape", f"{len(got)} results"
    for index, (x, y) in enumerate(zip(got, expected)):
        if isinstance(x, str) or isinstance(y, str):
            if str(x) != str(y):
                return "value", f"result {index}"
            continue
        if x.shape != y.shape:
            return "shape", f"shape {x.shape}"
        if not same_values(spec, case, mode, x, y):
            return "value", f"result {index}"
    return None


def dtype_difference(case, got, expected):
    """What is wrong with the dtypes of results, given JAX's; or `None`.

    Of 64-bit operands JAX makes 64 bits, where Keras says so, or 32, where
    it narrows; this backend keeps the 64 bits of operands and makes no others.
    """
    wide = has_64_bits(case)
    for x, y in zip(got, expected):
        if isinstance(x, str) or x.dtype == y.dtype:
            continue
        pair = x.dtype.name, y.dtype.name
        if wide and (
            pair in NARROWER.items() or pair[::-1] in NARROWER.items()
        ):
            continue
        return f"dtype {x.dtype}, want {y.dtype}"
    return None


def same_values(spec, case, mode, got, expected):
    if got.dtype.kind in "biu" and expected.dtype.kind in "biu":
        return np.array_equal(got, expected)
    dtypes = {got.dtype.name, expected.dtype.name}
    if mode != "eager":
        dtypes.add("float32")  # where the CPU plugin computes float64
    if spec.narrowest:
        dtypes.add(spec.narrowest(case))
    tolerance = spec.tolerance * max(TOLERANCES.get(d, 0) for d in dtypes)
    kind = "complex128" if "c" in got.dtype.kind else "float64"
    with np.errstate(over="ignore"):
        x, y = got.astype(kind), expected.astype(got.dtype).astype(kind)
    finite = np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return False
    size = np.abs(y[finite])
    if spec.spread:
        size = max([largest(a) for a in (y, *arrays_of(case))])
    # JAX makes zeros of subnormal float32, and of those of float64.
    floats = [d for d in (got.dtype, np.dtype("float32")) if is_float(d)]
    least = max(float(limits(d).tiny) for d in floats)
    error = np.abs(x[finite] - y[finite])
    return bool(np.all(error <= tolerance * size + 2 * least))


def largest(x):
    x = np.abs(x).astype("float64")
    x = x[np.isfinite(x)]
    return float(x.max()) if x.size else 0.0


def show(arrays, most=6):
    """Arrays in a few words."""
    words = []
    for x in arrays:
        if isinstance(x, str):
            words.append(x)
            continue
        flat = x.ravel()
        text = ", ".join(str(n) for n in flat[:most].tolist())
        dots = ", ..." if flat.size > most else ""
        words.append(f"{x.dtype}{list(x.shape)}({text}{dots})")
    return " & ".join(words)


# ------------------------------------------------------------- tolerated


def is_narrowed(finding):
    """Whether 32 bits cannot hold a number in a compiled model."""
    if finding.kind == "error":
        return "in 32 bits, which the" in finding.what
    if finding.kind != "value":
        return False
    arrays = [*arrays_of(finding.case)]
    for wanted in finding.wanted:
        arrays += [x for x in wanted if not isinstance(x, str)]
    return finding.mode != "eager" and not all(map(fits_32_bits, arrays))


def fits_32_bits(x):
    if x.dtype.name in ("int64", "uint64", "uint32"):
        # As int32: the plugin takes a uint32 beyond for a negative number.
        info = np.iinfo("int32")
        return bool(np.all((x >= info.min) & (x <= info.max)))
    if x.dtype == "float64":
        finite = x[np.isfinite(x) & (x != 0)]
        size = np.abs(finite)
        return bool(np.all((size < 1e38) & (size > 1e-37)))
    return True


def has_overflown(finding):
    """Whether only float16 that are not finite differ in a compiled model."""
    if finding.mode == "eager" or finding.kind != "value":
        return False
    if all(np.isfinite(y).all() for y in finding.wanted[0]):
        return False
    for x, y in zip(finding.got, finding.wanted[0]):
        finite = np.isfinite(y)
        if x.dtype != "float16" or x.shape != y.shape:
            return False
        size = 40 * TOLERANCES["float16"] * largest(y)
        error = np.abs(x[finite].astype("float32") - y[finite])
        if not np.all(error <= size):
            return False
    return True


def is_between_infinities(finding):
    """Whether results differ only where both are not finite."""
    return finding.kind == "value" and any(
        alike_where_finite(finding.got[0], wanted)
        for wanted, *_ in finding.wanted
    )


def alike_where_finite(x, y):
    if isinstance(y, str) or x.shape != y.shape:
        return False
    x, y = x.astype("float64"), y.astype("float64")
    return np.array_equal(
        *(np.where(np.isfinite(z), z, np.nan) for z in (x, y)), equal_nan=True
    )


def is_other_dtype(finding):
    return finding.kind == "dtype"


def is_tiny(finding):
    """Whether a compiled model is off by the last bit of 1 at most."""
    pairs = zip(finding.got, finding.wanted[0]) if finding.wanted else []
    if finding.kind != "value" or finding.mode == "eager":
        return False
    return all(
        x.shape == y.shape
        and np.allclose(
            x.astype("float64"),
            y.astype("float64"),
            rtol=TOLERANCES.get(x.dtype.name, 0),
            atol=2e-7,
            equal_nan=True,
        )
        for x, y in pairs
    )


FUSED = (
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "relu",
    "relu6",
    "sparse_sigmoid",
)


def is_of_no_number(finding):
    """Whether a compiled model is off where inputs are huge or not finite."""
    if finding.mode == "eager" or finding.kind != "value":
        return False
    (x,) = arrays_of(finding.case)
    # The plugin squares some.
    with np.errstate(invalid="ignore"):
        usual = np.abs(x.astype("float64")) < 1e19
    return np.allclose(
        finding.got[0].astype("float64")[usual],
        finding.wanted[0][0].astype("float64")[usual],
        rtol=4 * TOLERANCES.get(x.dtype.name, 0),
        atol=1e-7,
    )


TOLERATED = (
    Tolerated("compiled CPU models have 32 bits", is_narrowed),
    # It keeps to 1 what is small; as a fused activation it costs nothing.
    Tolerated(
        "the CPU plugin computes exp(x) - 1", is_tiny, ("celu", "elu", "selu")
    ),
    Tolerated(
        "the CPU plugin's fused activations keep no NaN", is_of_no_number, FUSED
    ),
    # Keras's symbolic call gives the dtypes that this backend gives.
    Tolerated(
        "JAX's dtype is another",
        is_other_dtype,
        (
            "angle",
            "logaddexp",
            "logaddexp2",
            "power",
            "sparse_categorical_crossentropy",
        ),
    ),
    # Half of their sum; NumPy and JAX subtract some of them.
    Tolerated(
        "between infinities",
        is_between_infinities,
        ("nanpercentile", "nanquantile", "percentile", "quantile"),
    ),
    Tolerated(
        "compiled float16 overflows where it is looked at",
        has_overflown,
        ("floats",),
    ),
)
