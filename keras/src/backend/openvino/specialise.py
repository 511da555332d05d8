"""Compiled variants of graphs, by the shapes of their inputs."""

import collections
import contextlib
import threading


class UnknownDim(TypeError, ValueError):
    """Something takes a dim that is known, and it is dynamic.

    After no other error does `Variants` compile a graph with all dims known.
    """


@contextlib.contextmanager
def naming_unknown_dims():
    """Raises `UnknownDim` for what Python says of arithmetic with a `None`.

    The dims that are not known are `None` to some of the code that is traced.
    """
    try:
        yield
    except UnknownDim:
        raise
    except TypeError as error:
        if "NoneType" not in str(error):
            raise
        raise UnknownDim(str(error)) from error


class Variants:
    """Compiled models, of which the least recently used are let go.

    Threads may ask at once; those that want the variant that one of them
    compiles wait for it.

    Args:
        max_number: how many are kept.
        max_bytes: how much those that are kept hold, by their `nbytes`; the
            latest is kept however large it is.
        compiling: a lock that is held while a variant is compiled; by default
            each graph has one of its own, which could deadlock where compiling
            takes other locks or compiles further variants.
    """

    def __init__(self, max_number, max_bytes, compiling=None):
        self._compiling = compiling
        self._max_number = max_number
        self._max_bytes = max_bytes
        self._graphs = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self):
        return sum(len(graph.variants) for graph in self._graphs.values())

    def get(self, key, shapes, compile, patterns=None):
        """The variant for inputs of these shapes.

        Args:
            key: a hashable value that stands for the graph.
            shapes: a list of tuples of integers.
            compile: a function from shapes, in which `None` is a dynamic dim,
                to the variant. It raises `UnknownDim` where one of those has
                to be known. A variant has `nbytes`, and a method `is_current`
                that is false once it is to be compiled anew.
            patterns: a function from shapes that no variant fits to a list of
                candidates, tried in order: the shapes with `None` for each
                dim that is to be dynamic. By default these are the dims that
                differ from the closest variant, so that there are few
                variants whatever sizes come.
        """
        with self._lock:
            graph = self._graphs.get(key)
            if graph is None:
                graph = self._graphs[key] = _Graph(self._compiling)
            self._graphs.move_to_end(key)
            variant = graph.find(shapes)
        if variant is not None:
            return variant
        with graph.compiling:
            with self._lock:
                variant = graph.find(shapes)
                if variant is None:
                    self._forget_stale()
            if variant is None:
                pattern, variant = graph.compile(shapes, compile, patterns)
                with self._lock:
                    self._graphs[key] = graph  # it had none, and was let go
                    graph.variants.insert(0, (pattern, variant))
                    self._forget_oldest()
        return variant

    def __iter__(self):
        with self._lock:
            graphs = self._graphs.values()
            return iter([v for graph in graphs for _, v in graph.variants])

    def _forget_stale(self):
        for key, graph in list(self._graphs.items()):
            graph.variants = [v for v in graph.variants if v[1].is_current()]
            if not graph.variants:
                del self._graphs[key]

    def _forget_oldest(self):
        number = len(self)
        nbytes = sum(
            variant.nbytes
            for graph in self._graphs.values()
            for _, variant in graph.variants
        )
        while number > 1 and (
            number > self._max_number or nbytes > self._max_bytes
        ):
            key, graph = next(iter(self._graphs.items()))
            if graph.variants:
                nbytes -= graph.variants.pop()[1].nbytes
                number -= 1
            if not graph.variants:
                del self._graphs[key]


class _Graph:
    """The variants of one graph, the latest used first."""

    # Patterns that are remembered not to compile.
    MAX_REFUSED = 64

    def __init__(self, compiling=None):
        self.variants = []  # pairs of a pattern of shapes and a variant
        self.compiling = compiling or threading.RLock()
        self._refused = collections.deque(maxlen=self.MAX_REFUSED)

    def find(self, shapes):
        for position, (pattern, variant) in enumerate(self.variants):
            if _matches(pattern, shapes) and variant.is_current():
                if position:
                    self.variants.insert(0, self.variants.pop(position))
                return variant
        return None

    def compile(self, shapes, compile, patterns):
        """The pattern of a new variant, and the variant."""
        for pattern in (patterns or self._varying)(shapes):
            if pattern == shapes or pattern in self._refused:
                continue
            try:
                return pattern, compile(pattern)
            except UnknownDim:
                self._refused.append(pattern)
        return shapes, compile(shapes)

    def _varying(self, shapes):
        # Once: another thread may let them go.
        patterns = [pattern for pattern, _ in self.variants]
        if not patterns:
            return [shapes]
        # The closest: the weights of another layer that has this graph too
        # must not become dynamic where only the batch size does.
        closest = min(patterns, key=lambda p: _distance(p, shapes))
        return [_generalised(closest, shapes), shapes]


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
