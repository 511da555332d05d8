"""Compiled variants of one graph, by the shapes of its inputs."""

import threading


class Specialisations:
    """Compiled variants of one graph, by the shapes of its inputs.

    Args:
        compile: a function from shapes, in which `None` is a dynamic dim, to
            a callable; one with a method `is_current` is compiled anew once
            that is false.
        patterns: a function from shapes that no variant fits to a list of
            the same with `None` for dims that are to be dynamic; the first
            that compiles is taken. By default these are the dims that are
            seen to vary, which keeps the number of variants small whatever
            sizes come, or else none.
    """

    def __init__(self, compile, patterns=None):
        self._compile = compile
        self._patterns = patterns or self._varying
        self._variants = []
        self._refused = set()
        self._lock = threading.RLock()

    def get(self, shapes):
        """The variant for these shapes (a list of tuples of integers)."""
        for pattern, variant in self._variants:
            if _matches(pattern, shapes) and _is_current(variant):
                return variant
        with self._lock:
            self._variants = [v for v in self._variants if _is_current(v[1])]
            for pattern, variant in self._variants:
                if _matches(pattern, shapes):
                    return variant
            pattern, variant = self._new_variant(shapes)
            self._variants = [(pattern, variant)] + self._variants
            return variant

    def _new_variant(self, shapes):
        for pattern in self._patterns(shapes):
            if pattern == shapes or tuple(pattern) in self._refused:
                continue
            try:
                return pattern, self._compile(pattern)
            except Exception:
                # Something needs one of these dims known, as a convolution
                # those of its weights. If that is not the reason, it fails
                # again below.
                self._refused.add(tuple(pattern))
        return shapes, self._compile(shapes)

    def _varying(self, shapes):
        if not self._variants:
            return [shapes]
        # The closest: the weights of another layer that has this graph too
        # must not become dynamic where only the batch size does.
        patterns = [pattern for pattern, _ in self._variants]
        closest = min(patterns, key=lambda p: _distance(p, shapes))
        return [_generalised(closest, shapes), shapes]


def _is_current(variant):
    is_current = getattr(variant, "is_current", None)
    return is_current is None or is_current()


def _matches(pattern, shapes):
    return all(
        dim is None or dim == size
        for dims, shape in zip(pattern, shapes)
        for dim, size in zip(dims, shape)
    )


def _distance(pattern, shapes):
    """The number of dims in which shapes do not match a pattern."""
    return sum(
        dim is not None and dim != size
        for dims, shape in zip(pattern, shapes)
        for dim, size in zip(dims, shape)
    )


def _generalised(pattern, shapes):
    return [
        tuple(dim if dim == size else None for dim, size in zip(dims, shape))
        for dims, shape in zip(pattern, shapes)
    ]
