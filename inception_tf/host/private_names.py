# SPDX-License-Identifier: Apache-2.0
"""The private names of other packages that this package relies on, and the check that they still exist.

A private name begins with an underscore, or is in a module that its package does not document.  Each
package has one table of them, a `PrivateNames`; the code accesses the names through that table only.
Otherwise an overridden method that a later version renames would silently never be called.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import unwrap
from typing import Any

from inception_tf.errors import UserError
from inception_tf.host.environment import version_of

__all__ = ["PrivateName", "PrivateNames"]


@dataclass(frozen=True)
class PrivateName:
    """A private name and its use."""

    owner: str  # dotted module, or class in a module
    name: str
    use: str  # what breaks without it
    on_instances: bool = False  # an attribute of objects, not of the class; `owner()` makes one
    set_by: str = ""  # an attribute that this method of the class sets, later than `owner()`


class PrivateNames:
    """The table of private names of one installed package; making it imports nothing.

    Args:
        supported: The requirement in setup.cfg, such as `keras>=3.15,<3.16`.
        names: The table, each `name` once.
    """

    def __init__(self, supported: str, names: Iterable[PrivateName]) -> None:
        self.package = supported.partition(">")[0]
        self.supported = supported
        self.names = {one.name: one for one in names}

    def require(self, *names: str) -> None:
        """Checks that the installed version has these names; imports what owns them.

        Args:
            names: Names in the table.

        Raises:
            UserError: One is gone; the sentence says which, what relies on it and which versions have it.
            ModuleNotFoundError: The package is not installed.
        """
        for name in names:
            self.get(name)

    def get(self, name: str) -> Any:
        """Returns the object of that name.

        Args:
            name: A name in the table.

        Returns:
            A module, class, function or attribute of the package; None for an attribute that is set later.

        Raises:
            UserError: It is gone; the sentence says what relies on it and which versions have it.
            ModuleNotFoundError: The package is not installed.
        """
        one = self.names[name]
        try:
            owner = pkgutil.resolve_name(one.owner)
            if one.set_by and name in unwrap(getattr(owner, one.set_by)).__code__.co_names:
                return None
            return getattr(owner() if one.on_instances else owner, name)
        except (ImportError, AttributeError) as error:
            if getattr(error, "name", None) == one.owner.partition(".")[0]:
                raise  # the whole package is missing
            raise UserError(
                f"{self.package} {version_of(self.package)} has no {one.owner}.{name}, on which {one.use} relies;"
                f" pip install '{self.supported}'"
            ) from error
