"""The module tree: where each module called in a block is found, and what a report says of it."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from flopdispatch.capture.private import is_traced, unwatched
from flopdispatch.capture.recording import Bucket, ModuleRecord, Recording
from flopdispatch.capture.scripted import unseen
from flopdispatch.capture.wrappers import children, class_name, inside, unwrapped

# Children of a scope that are kept beyond those that can be there: modules made in a forward.
MAX_STRAY = 64


class Scope:
    """One place in a module tree: a path, and the module found there (not kept alive)."""

    __slots__ = (
        "bare", "buckets", "calls", "children", "index", "module", "module_type", "name", "names",
        "params", "parent", "places", "rank", "recording", "wraps",
    )  # fmt: skip

    def __init__(self, name: str, parent: Scope | None, recording: Recording) -> None:
        self.name = name
        self.parent = parent
        self.recording = recording
        self.buckets: dict[str, Bucket] = {}
        self.module: Any = _no_module
        self.module_type = ""
        self.params: tuple[tuple[int, int], ...] = ()
        self.rank: int | None = None  # its place in a report, known once it is described
        self.places: list[str] = []  # all paths to the module, once it is described
        self.calls = 0
        self.children: dict[int, Scope] = {}  # of the modules called from here, by id
        self.names: dict[int, str] | None = None  # of the module's own children, by id
        self.index: dict[int, str] | None = None  # of all below it, by id
        self.bare = False  # whether the module has nothing of its own: no parameter, no child
        self.wraps = False  # whether it is no place of its own: its module is a wrapper

    def bucket(self, phase: str) -> Bucket:
        """Where calls of this scope are counted."""
        found = self.buckets.get(phase)
        if found is None:
            found = self.buckets[phase] = self.recording.bucket(self.name, phase)
        return found

    def path_to(self, module: nn.Module) -> str | None:
        """The shortest path from this scope's module to one below it."""
        own = self.module()
        if own is None:
            return None
        if self.names is None:
            names = reversed(list(children(own)))  # a module's first name stays
            self.names = {id(child): str(name) for name, child in names}
        name = self.names.get(id(module))
        if name is not None and _at(own, name) is module:
            return name
        for fresh in (False, True):  # the tree may have changed since it was indexed
            if self.index is None or fresh:
                self.index = _paths(own)
            path = self.index.get(id(module))
            if path is not None and _at(own, path) is module:
                return path
        return None

    def fits(self, module: nn.Module) -> bool:
        """Whether a module found in no tree may go by this scope's name.

        It does if it is the same one, and if it takes the place of one that is gone and both
        are bare: `nn.ReLU()(x)` in a forward makes a module a call, all of them alike.
        """
        own = self.module()
        return own is module or (own is None and self.bare and _is_bare(module))


class Shared:
    """What the trees of a block's threads have in common: root names and parameters' numbers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.roots: dict[str, tuple[Any, int]] = {}  # module and tree of each name
        # A number for each parameter and module; one that is gone gives its number to no other.
        self.identities: dict[int, tuple[Any, int]] = {}
        self.numbers = 0
        self.places: dict[int, list[str]] = {}  # the paths that lead to each module

    def identity(self, thing: nn.Parameter | nn.Module) -> int:
        """The number that tells this parameter or module from all others seen in the block."""
        known = self.identities.get(id(thing))
        if known is None or known[0]() is not thing:
            with self.lock:
                self.numbers += 1
                known = self.identities[id(thing)] = weakref.ref(thing), self.numbers
        return known[1]

    def found_at(self, path: str, module: nn.Module) -> list[str]:
        """All paths known to lead to a module, this one among them."""
        places = self.places.setdefault(self.identity(module), [])
        if path not in places:
            places.append(path)
        return places

    def is_free(self, name: str, module: nn.Module, tree: object) -> bool:
        """Whether no other thread's tree has a root of this name; it is the tree's then."""
        with self.lock:
            known, owner = self.roots.setdefault(name, (weakref.ref(module), id(tree)))
        return owner == id(tree) or known() is module


class ModuleTree:
    """The scopes of one block, `block` itself the root of them.

    `shared` is that of the trees of other threads of the block.
    """

    def __init__(self, recording: Recording, shared: Shared | None = None) -> None:
        self.recording = recording
        self.shared = shared or Shared()
        self.block = Scope("", None, recording)
        self.scopes: dict[str, Scope] = {"": self.block}
        self.regions: dict[Scope, tuple[Scope, str]] = {}  # where each is, and its name
        self.roots: dict[tuple[str, int], str] = {}  # by the name it asked for and its module's id
        self.taken: dict[str, int] = {}  # up to which number each name is
        self.unfinished: list[Scope] = []  # of which not all parameters are known yet
        self.ranks = 0
        self.reserved: dict[str, int] = {}  # for modules that may be called by a second path

    def child(self, current: Scope, module: nn.Module) -> Scope:
        """The scope of a module called from `current`, kept in its children."""
        if len(current.children) > MAX_STRAY + 2 * len(self.scopes):
            current.children.clear()  # most are of modules that were made in a forward and are gone
        found = current.children[id(module)] = self.locate(current, module)
        for text in unseen(module):
            self.recording.assume(text)
        return found

    def locate(self, current: Scope, module: nn.Module) -> Scope:
        """The scope of a module called from `current`: its path below the nearest caller."""
        if inside(module) is not None:
            return _wrapping(current, module)
        ancestor: Scope | None = current
        while ancestor is not None:
            if ancestor.wraps:
                ancestor = ancestor.parent
                continue
            if ancestor.module() is module:
                return ancestor
            path = ancestor.path_to(module)
            if path is not None:
                return self.scope(f"{ancestor.name}.{path}", module)
            ancestor = ancestor.parent
        name = _below(current, class_name(module))
        found = self.scope(self._free(name, lambda scope: scope.fits(module), module), module)
        found.bare = _is_bare(module)
        self._walk(found, module, set())
        return found

    def caller_of(self, module: nn.Module, current: Scope) -> Scope:
        """The nearest scope around `current` from where a module was called before, if any."""
        around: Scope | None = current
        while around is not None:
            known = around.children.get(id(module))
            if known is not None and known.module() is module:
                return around
            around = around.parent
        return current

    def region(self, current: Scope, name: str) -> Scope:
        """The scope of a region that the user named, in a row of no module's."""
        found = self.scope(self._free(_below(current, name), lambda s: s.module is _no_module))
        if found.rank is None:
            found.rank, self.ranks = self.ranks, self.ranks + 1
            self.regions[found] = current, name
        return found

    def outside_of(self, current: Scope, name: str) -> Scope:
        """Where a region is that `current` belongs to, if it has this name; else `current`."""
        inner: Scope | None = current
        while inner is not None:
            outer, known = self.regions.get(inner, (inner, None))
            if known == name:
                return outer
            inner = inner.parent
        return current

    def _free(
        self, name: str, fits: Callable[[Scope], bool], module: nn.Module | None = None
    ) -> str:
        """This name, or with a number behind it if it is another's."""
        known = self.roots.get((name, id(module)))
        if known is not None and fits(self.scopes[known]):
            return known
        bare = module is None or _is_bare(module)
        number = 1 if bare else self.taken.get(name, 0) + 1  # what others have stays theirs
        while True:
            unique = name if number == 1 else f"{name}#{number}"
            if (unique not in self.scopes or fits(self.scopes[unique])) and (
                module is None or self.shared.is_free(unique, module, self)
            ):
                break
            number += 1
        if not bare:
            self.taken[name], self.roots[name, id(module)] = number, unique
        return unique

    def reset(self) -> None:
        """Forget what was counted and how often modules were called, not where they are."""
        for scope in self.scopes.values():
            scope.buckets.clear()
            scope.calls = 0

    def scope(self, name: str, module: nn.Module | None = None) -> Scope:
        """The scope with this name, made with those above it if need be."""
        found = self.scopes.get(name)
        if found is None:
            parent = self.scope(name.rpartition(".")[0])
            found = self.scopes[name] = Scope(name, parent, self.recording)
        if module is not None and found.module() is not module:
            found.module = weakref.ref(module)
        return found

    # What a report says of the modules

    def _walk(self, scope: Scope, module: nn.Module, seen: set[int]) -> None:
        """Make the scopes of all modules below one, so that those that don't run are known too."""
        seen.add(id(module))
        self._describe(scope, module)
        for name, child in children(module):
            path = f"{scope.name}.{name}"
            if id(child) in seen:
                self.shared.found_at(path, child)
                self.reserved[path], self.ranks = self.ranks, self.ranks + 1
                continue
            below = self.scopes.get(path)
            if below is None:
                below = self.scopes[path] = Scope(path, scope, self.recording)
            if below.module() is not child:
                below.module = weakref.ref(child)
            scope.children[id(child)] = below
            self._walk(below, child, seen)

    def _describe(self, scope: Scope, module: nn.Module) -> None:
        """Note what a report says of a module, so that the module itself can be let go."""
        if scope.rank is None:
            scope.rank, self.ranks = self.ranks, self.ranks + 1
            scope.rank = self.reserved.pop(scope.name, scope.rank)
            scope.module_type = class_name(module)
            scope.places = self.shared.found_at(scope.name, module)
            if module._parameters and not self._note_parameters(scope, module):
                self.unfinished.append(scope)

    def _note_parameters(self, scope: Scope, module: nn.Module) -> bool:
        """Note a module's own parameters; False if they can't be known yet."""
        if is_traced():  # it would write what we ask of a tensor into its graph
            return False
        params, all_known = [], True
        with unwatched():
            for parameter in module._parameters.values():
                if parameter is None:
                    continue
                if type(parameter) is not nn.Parameter and is_lazy(parameter):
                    all_known = False
                else:
                    params.append((self.shared.identity(parameter), parameter.numel()))
        scope.params = tuple(params)
        return all_known

    def finish(self) -> None:
        """Describe the modules of which not all parameters were there at their first call."""
        if not self.unfinished:
            return
        lazy, self.unfinished = self.unfinished, []
        for scope in lazy:
            module = scope.module()
            if module is not None:
                scope.module_type = class_name(module)  # LazyLinear becomes Linear
                if not self._note_parameters(scope, module):
                    self.unfinished.append(scope)

    def records(self) -> tuple[ModuleRecord, ...]:
        """All modules known so far, in the order of their trees."""
        self.finish()
        self._describe_other_paths()
        known = sorted(self.scopes.values(), key=lambda s: (s.rank is None, s.rank or 0))
        return tuple(
            [
                ModuleRecord(s.name, s.module_type, s.params, s.calls, self._aliases(s))
                for s in known
            ]
        )

    def tensors(self) -> list[torch.Tensor]:
        """Parameters and buffers of all modules known so far that are still there."""
        modules = [module for s in self.scopes.values() if (module := s.module()) is not None]
        held = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values())]
        return [t for t in held if t is not None and not is_lazy(t)]

    def _describe_other_paths(self) -> None:
        """Describe scopes by which modules were called that are described at another path.

        Their parameters are those of that path: since then they may have been others, stand-ins.
        """
        left = [scope for scope in self.scopes.values() if scope.rank is None]
        known = {id(s.module()): s for s in self.scopes.values() if s.rank is not None}
        for scope in left:
            module = scope.module()
            if module is not None:
                self._describe(scope, module)
                scope.params = known.get(id(module), scope).params

    def _aliases(self, scope: Scope) -> tuple[str, ...]:
        """The other paths to a scope's module, but for those through aliases of the one above."""
        above, _, name = scope.name.rpartition(".")
        through = {f"{path}.{name}" for path in self.scopes[above].places}
        return tuple([path for path in scope.places if path not in through | {scope.name}])


def _is_bare(module: nn.Module) -> bool:
    return not (module._parameters or module._buffers or module._modules)


def _no_module() -> None:
    return None


def _paths(root: nn.Module) -> dict[int, str]:
    """The shortest path to each module below `root`, by id."""
    found: dict[int, str] = {id(root): ""}
    queue: deque[tuple[str, nn.Module]] = deque([("", root)])
    while queue:
        path, module = queue.popleft()
        for name, child in children(module):
            if id(child) not in found:
                found[id(child)] = f"{path}.{name}" if path else name
                queue.append((found[id(child)], child))
    return found


def _at(root: nn.Module, path: str) -> nn.Module | None:
    module: nn.Module | None = root
    for name in path.split("."):
        module = unwrapped(module._modules.get(name)) if module is not None else None
    return module


def _below(current: Scope, name: str) -> str:
    return f"{current.name}.{name}" if current.name else name


def _wrapping(current: Scope, module: nn.Module) -> Scope:
    """A scope for a wrapper: what runs in it is counted where it was called."""
    found = Scope(current.name, current, current.recording)
    found.module, found.wraps = weakref.ref(module), True
    found.buckets, found.children = current.buckets, current.children
    return found
