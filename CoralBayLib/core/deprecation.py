"""Old public names that keep working for one release, with a warning."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn that a name is deprecated.

    Args:
        old: the deprecated name.
        new: the name to use.
        stacklevel: as `warnings.warn` counts it, from the caller of this function.
    """
    warnings.warn(f"{old} is called {new} now; {old} goes in the next release.", DeprecationWarning, stacklevel + 1)


def deprecated_attribute(old: str, new: str) -> Any:
    """An attribute, property or method of a class under its old name; it can be read and set.

    Example::

        class Probe:
            told = deprecated_attribute("told", "prompt_labels")
    """

    def get(self: Any) -> Any:
        warn_renamed(f"{type(self).__name__}.{old}", new)
        return getattr(self, new)

    def set_(self: Any, value: Any) -> None:
        warn_renamed(f"{type(self).__name__}.{old}", new)
        setattr(self, new, value)

    return property(get, set_, doc=f"Deprecated name of `{new}`.")


def deprecated_function(old: str, function: _Function) -> _Function:
    """A function or class under its old name.

    Example::

        for_scan = deprecated_function("for_scan", adapt)
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        warn_renamed(old, function.__name__)
        return function(*args, **kwargs)

    call.__name__ = call.__qualname__ = old
    call.__doc__ = f"Deprecated name of `{function.__name__}`."
    return call  # type: ignore[return-value]


def deprecated_parameters(**new_by_old: str) -> Callable[[_Function], _Function]:
    """A decorator that accepts keyword arguments under their old names.

    Example::

        @deprecated_parameters(others="exclude_query_scan")
        def search(query, exclude_query_scan=False): ...

    Raises:
        TypeError: by the decorated function, when an argument is given under both names.
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in [name for name in kwargs if name in new_by_old]:
                new = new_by_old[old]
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got '{new}' and its old name '{old}'. Pass '{new}' only.")
                warn_renamed(f"The argument {old}", new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def deprecated_names(module: str, new_by_old: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a module whose public names changed.

    Example::

        __getattr__ = deprecated_names(__name__, {"remember": "sample"})
    """

    def get(name: str) -> Any:
        if name not in new_by_old:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        warn_renamed(f"{module}.{name}", new_by_old[name])
        return getattr(sys.modules[module], new_by_old[name])

    return get
