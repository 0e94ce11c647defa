"""What depth alone scores, in words."""

from collections.abc import Mapping
from typing import Any

from pairscape.model.reports import figures
from pairscape.model.reports.page import percent, signed, whole


def depth_null_words(recorded: Mapping[str, Any] | None) -> str:
    """What pairs with nothing in common but the depth of the cells score; empty of a run that did not look."""
    if not recorded:
        return ""
    told = [
        f"{percent(scores['beyond_99th_percentile'])} of them lie beyond the 99th percentile of the real pairs by "
        f"{figures.SCORERS[column].name} (their mean less the real one: {signed(scores['mean_in_sd'])} deviations)"
        for column, scores in (("score", recorded["network"]), ("spearman", recorded["spearman"]))
        if scores
    ]
    reason = f" Not computed for all: {recorded['reason'].rstrip('.')}." if "reason" in recorded else ""
    if not told:
        return f"What depth alone scores was not computed: {recorded['reason'].rstrip('.')}."
    return (
        f"What depth alone scores: {whole(recorded['n_pairs'])} pairs were drawn that share nothing but the depth of "
        f"the cells, and {'; '.join(told)}.{reason}"
    )
