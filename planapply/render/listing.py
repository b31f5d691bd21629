"""Every cluster of an account as people read it."""

from planapply.model.listing import ListedCluster, Listing
from planapply.render.text import BLANK_LINE, DEFAULT_WIDTH, Line, align_columns, line, wrap
from planapply.render.values import format_duration


def listing_lines(listing: Listing, width: int | None = None) -> list[Line]:
    """One line a cluster; `width` in columns is what must suffice, None: nothing is left out."""
    location = ", ".join([listing.provider, *listing.cloud.values()])
    if not listing.clusters:
        return [line(f"No clusters ({location}).")]
    rows = align_columns(
        [_row(cluster) for cluster in listing.clusters], width=None if width is None else width - 2
    )
    lines = [line(("Clusters", "bold"), f" ({location}):"), BLANK_LINE]
    lines += [line("  ", "".join(row)) for row in rows]
    if listing.price_source:
        lines += [BLANK_LINE, line(f"Prices: {listing.price_source}")]
    if any(cluster.state is None for cluster in listing.clusters):
        text = (
            "What state is elsewhere and what state is lost can't be told apart from here. "
            "One that is elsewhere is named with --state; a lost one is rebuilt with "
            "`planapply recover`."
        )
        lines += [BLANK_LINE, *(line(part) for part in wrap(text, width or DEFAULT_WIDTH))]
    return lines


def _row(cluster: ListedCluster) -> list[str]:
    nodes = f"{cluster.nodes} node{'' if cluster.nodes == 1 else 's'}"
    if cluster.stopping:
        nodes += f", {cluster.stopping} ending"
    age = "" if cluster.age is None else format_duration(cluster.age)
    state = "state elsewhere or lost" if cluster.state is None else f"state in {cluster.state}"
    return [cluster.cluster, nodes, age, _cost(cluster), state, cluster.lineage]


def _cost(cluster: ListedCluster) -> str:
    if cluster.usd_per_hour is None:
        return "price unknown" if cluster.unpriced else ""
    prefix = "at least " if cluster.unpriced else ""
    return f"{prefix}{cluster.usd_per_hour:.2f} USD/h"
