"""A certificate as a table."""

from __future__ import annotations

from qdeploy.cli import tables
from qdeploy.figures import percent_cell
from qdeploy.names import short_name
from qdeploy.schemas.certificate import Int8


def certificate(check: Int8, strategy: str) -> None:
    """One line per GEMM: what was planned, what ran, and its shares."""
    from rich.table import Table

    table = Table(title=tables.int8(check, strategy))
    for name in ("GEMM", "planned", "kernel", "FLOPs %", "time %", "reason"):
        table.add_column(name, justify="right" if "%" in name else "left", overflow="fold")
    for name, gemm in check["gemms"].items():
        table.add_row(
            short_name(name),
            gemm["planned"],
            gemm["kernel"],
            percent_cell(gemm["flops_share"]),
            percent_cell(gemm["time_share"]),
            gemm["reason"],
            style="red" if gemm["planned"] != "float" and gemm["reason"] else None,
        )
    tables.show(table)
