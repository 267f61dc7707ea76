"""redrive: what to do about dead letters. `python -m workers.redrive --help`; in the repository `make redrive ARGS=…`.

    list TOPIC|all                      which letters there are, and why
    show LETTER                         one of them, whole
    edit LETTER [--body FILE] …         write an edited copy to a file; without --body in $EDITOR
    replay LETTER … | --all TOPIC | --edited FILE

LETTER is TOPIC/PARTITION/OFFSET as `list` prints it. Exit codes: 0 done, 1 could not, with one line that says why,
2 bad arguments or settings.
"""

import argparse
import asyncio
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.contracts.topics import Topic
from common.dead_letter import CAUSE, CONSUMER, DIED_AT, PREFIX
from common.errors import HeadraceError
from common.lifecycle import load_settings
from common.records import Record
from workers.dead_letters import (
    EditedCopy,
    RedriveError,
    address_of,
    edited_copy,
    find,
    find_all,
    original_of,
    parse_address,
    parse_topic,
    scan,
    send,
)
from workers.settings import RedriveSettings

BODY_SHOWN = 10_000


async def list_letters(settings: RedriveSettings, console: Console, topics: Sequence[Topic]) -> None:
    rows: list[tuple[str, ...]] = []

    def keep(letters: Sequence[Record]) -> None:
        rows.extend(_row(letter) for letter in letters)

    async with asyncio.TaskGroup() as tasks:
        for topic in topics:
            tasks.create_task(scan(settings, topic, keep))
    table = Table("letter", "died at", "consumer", "key", "bytes", "cause")
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True
    for row in sorted(rows, key=lambda row: row[1]):
        table.add_row(*map(Text, row))
    if rows:
        console.print(table)
    console.print(f"{len(rows):,} dead letter{'s' if len(rows) > 1 else ''}." if rows else "No dead letters.")


async def show(settings: RedriveSettings, console: Console, address: str) -> None:
    (letter,) = await find(settings, [parse_address(address)])
    table = Table("what", "value", title=str(address_of(letter)), title_justify="left")
    table.add_row("key", Text(_printable(letter.key)))
    table.add_row("bytes", Text(_size(letter.value)))
    ours_last = sorted(letter.headers, key=lambda header: header[0].startswith(PREFIX))
    for name, value in ours_last:
        table.add_row(Text(_printable(name.encode())), Text(_printable(value), overflow="fold"))
    console.print(table)
    body = _printable(letter.value)
    console.print(Text(body[:BODY_SHOWN]), soft_wrap=True)
    if len(body) > BODY_SHOWN:
        console.print(f"… and {len(body) - BODY_SHOWN:,} characters more")


async def edit(settings: RedriveSettings, console: Console, options: argparse.Namespace) -> None:
    (letter,) = await find(settings, [parse_address(options.letter)])
    if options.body is not None:
        value = _read(options.body)
    elif options.key is not None or options.new_id:
        value = letter.value
    else:
        value = await asyncio.to_thread(_in_editor, letter.value or b"")
    key = letter.key if options.key is None else options.key.encode()
    copy = edited_copy(letter, value=value, key=key, new_id=options.new_id)
    file = Path(options.to or f"{copy.topic}-{letter.partition}-{letter.offset}.json")
    _write_new(file, msgspec.json.format(msgspec.json.encode(copy)) + b"\n")
    console.print(f"Edited copy: {file}", highlight=False, soft_wrap=True)
    cause = copy.poison()
    said = "It can be read now." if cause is None else f"It would die again: {cause}"
    console.print(Text(_printable(said.encode())), soft_wrap=True)


async def replay(settings: RedriveSettings, console: Console, options: argparse.Namespace) -> None:
    if options.edited is not None:
        records = [_read_copy(options.edited).record()]
    elif options.all is not None:
        records = [original_of(letter) for letter in await find_all(settings, parse_topic(options.all))]
    else:
        addresses = [parse_address(letter) for letter in options.letters]
        records = [original_of(letter) for letter in await find(settings, addresses)]
    if records:
        await send(settings, records)
    topics = ", ".join(sorted({record.topic for record in records}))
    console.print(f"{len(records):,} sent to {topics}." if records else "Nothing to send.", highlight=False)


def run_command(arguments: Sequence[str], console: Console) -> None:
    """Raises SystemExit for bad arguments, HeadraceError, alone or in a group, for what cannot be done."""
    options = _parse(arguments)
    settings = load_settings(RedriveSettings)
    match options.command:
        case "list":
            topics = [*Topic] if options.topic == "all" else [parse_topic(options.topic)]
            work = list_letters(settings, console, topics)
        case "show":
            work = show(settings, console, options.letter)
        case "edit":
            work = edit(settings, console, options)
        case _:
            work = replay(settings, console, options)
    asyncio.run(work)


def main() -> NoReturn:
    # a table that goes into a file or a pipe is not cut to 80 columns
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it has to say comes back as our one line
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        run_command(sys.argv[1:], console)
    except* HeadraceError as errors:
        sys.stderr.write(f"redrive: {_first(errors)}\n")
        raise SystemExit(1) from None
    except* (KeyboardInterrupt, BrokenPipeError):
        raise SystemExit(1) from None
    raise SystemExit(0)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="redrive", description="List, show, edit and replay dead letters.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    a_letter = _checked(parse_address, "not TOPIC/PARTITION/OFFSET of a topic of ours")
    a_topic = _checked(parse_topic, f"not a topic of ours: {', '.join(Topic)}")

    command = commands.add_parser("list", help="which letters there are, and why")
    command.add_argument("topic", metavar="TOPIC|all", type=lambda text: text if text == "all" else a_topic(text))
    command = commands.add_parser("show", help="one letter, whole")
    command.add_argument("letter", metavar="TOPIC/PARTITION/OFFSET", type=a_letter)
    command = commands.add_parser("edit", help="write an edited copy to a file, to replay it later")
    command.add_argument("letter", metavar="TOPIC/PARTITION/OFFSET", type=a_letter)
    command.add_argument("--body", metavar="FILE", help="the new body; without it $EDITOR opens the old one")
    command.add_argument("--key", help="the new record key; it must be the order id of the body")
    command.add_argument("--new-id", action="store_true", help="a new message id: the old one is missing or used up")
    command.add_argument("--to", metavar="FILE", help="where the copy goes; default: TOPIC-PARTITION-OFFSET.json")
    command = commands.add_parser("replay", help="send again to the topic it died on; twice is harmless")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("letters", metavar="TOPIC/PARTITION/OFFSET", type=a_letter, nargs="*", default=[])
    what.add_argument("--all", metavar="TOPIC", type=a_topic, help="every letter of this topic, each message once")
    what.add_argument("--edited", metavar="FILE", help="an edited copy")
    return parser.parse_args(arguments)


def _checked(parse: Callable[[str], object], complaint: str) -> Callable[[str], str]:
    """For argparse: the text itself, once `parse` takes it."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is {complaint}") from None
        return text

    return check


def _row(letter: Record) -> tuple[str, ...]:
    died_at, consumer, cause = (_printable(letter.header(name)) for name in (DIED_AT, CONSUMER, CAUSE))
    return (str(address_of(letter)), died_at, consumer, _printable(letter.key), _size(letter.value), cause)


def _size(value: bytes | None) -> str:
    return "null" if value is None else f"{len(value):,}"


def _printable(content: bytes | None) -> str:
    """Text that does nothing to a terminal: the bytes are anybody's."""
    if content is None:
        return "null"
    text = content.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RedriveError(f"cannot read {file}: {error.strerror}") from error


def _write_new(file: Path, content: bytes) -> None:
    try:
        with file.open("xb") as out:
            out.write(content)
    except OSError as error:
        raise RedriveError(f"cannot write {file}: {error.strerror}") from error


def _read_copy(file: str) -> EditedCopy:
    try:
        return msgspec.json.decode(_read(file), type=EditedCopy)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RedriveError(f"{file} is not an edited copy: {error}") from error


def _in_editor(body: bytes) -> bytes:
    editor = os.environ.get("EDITOR")
    if not editor:
        raise RedriveError("say what the new body is: --body FILE, or set EDITOR")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "body.json"
        file.write_bytes(body)
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)  # noqa: S603 - the user's own editor
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise RedriveError(f"the editor failed: {error}") from error
        return file.read_bytes()


def _first(group: BaseExceptionGroup[HeadraceError]) -> BaseException:
    """Inside the groups that TaskGroups make; readers of several topics fail for the same reason."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    main()
