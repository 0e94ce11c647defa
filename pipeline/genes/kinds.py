"""The kinds of dependence that a pair of genes may show, as classes of a network. Pure."""

from typing import Literal, get_args

Kind = Literal["rising", "falling", "threshold", "exclusive", "u-shaped", "opposite"]

KINDS: tuple[str, ...] = ("none", *get_args(Kind))
"""Names of the classes in the order of the labels 0 to 6, where labels are kinds.

`rising` and `falling`: one gene's expression rises, or falls, with the other's. `threshold`: it steps up. `exclusive`:
one is off where the other is on. `u-shaped`: high at both ends of the other's. `opposite`: rising in some cells and
falling in the rest.
"""
OF_PLANTED = {"linear": "rising", "saturating": "rising", "simpson": "opposite"}
"""The kind of what `plant` calls by a name of its own."""
