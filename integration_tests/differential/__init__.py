"""Random calls of ops and layers: this backend against JAX and NumPy.

`cases` says what a case is and draws them; `ops` is the table of what is
called, `worker` runs cases in a process of its own, `harness` starts it and
gathers the answers, `compare` judges them.

Another table (of layers) is a module with a dict `SPECS` of names and `Spec`s,
named in `TABLES` in `__main__` and tested in `differential_test.py` as `ops`
is. Its `Spec.build(case)` runs outside of a trace and returns the function of
the case's arguments that runs in one: it makes the layer from Python values in
`case.kwargs`, builds it for the shapes of the arrays and sets weights drawn
from a seed, the same on each backend.
"""
