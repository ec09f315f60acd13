"""The command line as a whole: help, and how every command ends."""

import click
import pytest

from skshazam import __version__
from skshazam.cli import main
from skshazam.cli._reporting import (
    ReportingGroup,
    format_bytes,
    format_table,
    in_the_shell,
)
from skshazam.exceptions import FeatureStoreError


def commands(group, prefix=()):
    for name, command in group.commands.items():
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


ALL = list(commands(main))


def test_version_and_help(run):
    assert __version__ in run("--version").output
    text = run("--help").output
    for name in ("demo", "teachers", "extract", "store"):
        assert f"\n  {name} " in text
    assert "Exit codes" in text
    assert "SYNTHETIC" in run("demo", "--help").output


@pytest.mark.parametrize(("names", "command"), ALL, ids=lambda value: str(value)[:40])
def test_every_command_has_help_and_every_option_a_word(run, names, command):
    result = run(*names, "--help")
    assert result.exit_code == 0
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in result.output


def ended_by(error):
    @click.group(cls=ReportingGroup)
    def group():
        pass

    @group.command()
    def fail():
        raise error

    return group


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (FeatureStoreError("No room."), 1, "Error: No room.\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "Error: [Errno 13]"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
    ],
)
def test_errors_end_in_a_message_and_a_code(error, code, said):
    from click.testing import CliRunner

    result = CliRunner().invoke(ended_by(error), ["fail"])
    assert result.exit_code == code
    assert result.output.startswith(said)
    assert "Traceback" not in result.output


def test_a_mistake_of_ours_is_no_message():
    from click.testing import CliRunner

    result = CliRunner().invoke(ended_by(ZeroDivisionError()), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_tables_align_text_left_and_numbers_right():
    text = format_table(("name", "dim"), [("uni", "1024"), ("stain", "27")])
    assert text == "name    dim\nuni    1024\nstain    27"
    assert format_table(("name", "dim"), []) == "name  dim"


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")],
)
def test_sizes_have_units(n, text):
    assert format_bytes(n) == text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "Pass weights={'uni': '/path/to/file'}; nothing is then downloaded.",
            "Pass --weights uni=/path/to/file; nothing is then downloaded.",
        ),
        ("Use device='auto' or device='cpu'.", "Use --device auto or --device cpu."),
        ("pass on_error='nan'", "pass --on-error nan"),
        ("Use FeatureStore(path, dtype='float32').", "Use --dtype float32."),
        ("Pass precision='float32'", "Pass --precision float32"),
        ("Pass images=, or check=0.", "Pass --images, or --check 0."),
        ("nothing to change", "nothing to change"),
    ],
)
def test_messages_speak_of_options_and_not_of_parameters(message, shown):
    assert in_the_shell(message) == shown
