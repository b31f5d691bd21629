"""The clusters of an account as people read them."""

from planapply.model.listing import ListedCluster, Listing
from planapply.render.text import BLANK_LINE, DEFAULT_WIDTH, Line, align_columns, line, wrap
from planapply.render.values import format_duration


def listing_lines(listing: Listing, width: int | None = None) -> list[Line]:
    """Return one line per cluster; `width` in columns limits it, None omits nothing."""
    location = ", ".join(
        [listing.provider, *(f"{key} {value}" for key, value in listing.cloud.items())]
    )
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
            "planapply cannot tell whether a missing state is elsewhere or lost. If it is elsewhere, "
            "pass its location with --state; if it is lost, rebuild it with `planapply recover NAME`."
        )
        lines += [BLANK_LINE, *(line(part) for part in wrap(text, width or DEFAULT_WIDTH))]
    return lines


def _row(cluster: ListedCluster) -> list[str]:
    nodes = f"{cluster.nodes} node{'' if cluster.nodes == 1 else 's'}"
    if cluster.stopping:
        nodes += f", {cluster.stopping} shutting down"
    age = "" if cluster.age is None else format_duration(cluster.age)
    state = "state elsewhere or lost" if cluster.state is None else f"state in {cluster.state}"
    return [cluster.cluster, nodes, age, _cost(cluster), state, cluster.lineage]


def _cost(cluster: ListedCluster) -> str:
    if cluster.usd_per_hour is None:
        return "price unknown" if cluster.unpriced else ""
    prefix = "at least " if cluster.unpriced else ""
    return f"{prefix}{cluster.usd_per_hour:.2f} USD/h"
