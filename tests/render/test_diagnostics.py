"""Errors and warnings as they are printed."""

from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

from planapply.model.diagnostics import Diagnostic, Severity, Source
from planapply.render.diagnostics import diagnostic_lines
from planapply.render.text import to_plain_text


def text(*diagnostics: Diagnostic, width: int = 80) -> str:
    return to_plain_text(diagnostic_lines(diagnostics, width))


def test_errors_and_warnings_show_source_lines() -> None:
    wrong = Diagnostic(
        summary='`workers.cpu.count` must be a whole number, not "4"',
        detail="Write count = 4, without quotes.",
        source=Source(file="cluster.toml", line=12, column=1, text='count = "4"  # nodes'),
    )
    inner = Diagnostic(
        severity=Severity.WARNING,
        summary="the provider `local` ignores `workers.cpu.size`",
        detail="Remove the key.",
        source=Source(
            file="cluster.toml", line=9, column=10, text='\tcpu = { "größe 日" = 1, size = "x" }'
        ),
    )
    assert text(wrong, inner) == snapshot("""\
Error: `workers.cpu.count` must be a whole number, not "4"
  --> cluster.toml:12:1
   |
12 | count = "4"  # nodes
   | ^^^^^
  Write count = 4, without quotes.

Warning: the provider `local` ignores `workers.cpu.size`
 --> cluster.toml:9:10
  |
9 |  cpu = { "größe 日" = 1, size = "x" }
  |          ^^^^^^^^^^
  Remove the key.
""")


def test_long_summaries_and_details_are_wrapped_but_commands_are_not() -> None:
    locked = Diagnostic(
        summary="The state s3://a-bucket-with-a-rather-long-name/and/a/deep/folder/genomics.json "
        "cannot be written: no space left on the device",
        detail="Wait for it (`--lock-timeout 30s`), or, if that process is dead, release the lock with "
        "one command, which is:\n"
        "  planapply unlock 1234abcd --state s3://a-bucket-with-a-rather-long-name/and/a/deep/"
        "folder/genomics.json\n\nThe last lines of its output:\n\tTraceback\x1b[2J",
    )
    assert text(locked) == snapshot("""\
Error: The state
s3://a-bucket-with-a-rather-long-name/and/a/deep/folder/genomics.json cannot be
written: no space left on the device
  Wait for it (`--lock-timeout 30s`), or, if that process is dead, release the
  lock with one command, which is:
    planapply unlock 1234abcd --state s3://a-bucket-with-a-rather-long-name/and/a/deep/folder/genomics.json

  The last lines of its output:
      Traceback�[2J
""")
    assert text(locked, width=120) == snapshot("""\
Error: The state s3://a-bucket-with-a-rather-long-name/and/a/deep/folder/genomics.json cannot be written: no space left
on the device
  Wait for it (`--lock-timeout 30s`), or, if that process is dead, release the lock with one command, which is:
    planapply unlock 1234abcd --state s3://a-bucket-with-a-rather-long-name/and/a/deep/folder/genomics.json

  The last lines of its output:
      Traceback�[2J
""")


def test_long_source_line_shows_the_relevant_part() -> None:
    line = "packages = [" + ", ".join(f'"package-{i}"' for i in range(100)) + "]"
    places = [1, line.index('"package-50"') + 1, len(line)]
    wrong = [
        Diagnostic(summary="wrong", source=Source(file="a.toml", line=3, column=c, text=line))
        for c in places
    ]
    assert text(*wrong) == snapshot("""\
Error: wrong
 --> a.toml:3:1
  |
3 | packages = ["package-0", "package-1", "package-2", "package-3", "package-…
  | ^^^^^^^^

Error: wrong
 --> a.toml:3:703
  |
3 | …age-49", "package-50", "package-51", "package-52", "package-53", "packag…
  |           ^^^^^^^^^^^^

Error: wrong
 --> a.toml:3:1401
  |
3 | …4", "package-95", "package-96", "package-97", "package-98", "package-99"]
  |                                                                          ^
""")


SOURCES = st.builds(
    Source,
    file=st.text(max_size=20),
    line=st.integers(1, 10_000),
    column=st.integers(1, 300),
    text=st.text(max_size=300),
)
DIAGNOSTICS = st.builds(Diagnostic, summary=st.text(), detail=st.text(), source=st.none() | SOURCES)


@settings(max_examples=40)
@given(st.lists(DIAGNOSTICS, max_size=3), st.integers(1, 200))
def test_any_diagnostic_is_printable(diagnostics: list[Diagnostic], width: int) -> None:
    printed = text(*diagnostics, width=width)
    assert printed.replace("\n", "").replace("\t", "").isprintable()
    assert printed.count("Error:") >= len(diagnostics)
