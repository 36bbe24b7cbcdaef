"""Every combination of a sweep through the real command line of its script, in this process, before anything runs."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.private_names import subcommand_parser
from sweeps.expand import Combination, Sweep, is_seed


def check(sweep: Sweep, combinations: Iterable[Combination] | None = None) -> None:
    """UserError with the name of the first combination whose options do not parse, name no class, or contradict each
    other.
    """
    chosen = list(sweep.combinations if combinations is None else combinations)
    script = Path(chosen[0].words[0]).name
    checks = {"train.py": _training, "evaluate.py": _evaluation}
    if script not in checks:
        raise UserError(f"'{sweep.path}': program must be {' or '.join(checks)}, got '{script}'")
    for combination, error in checks[script](chosen):
        raise UserError(f"'{sweep.path}', combination {combination.number} ({combination.name}): {error}")


def _training(combinations: list[Combination]) -> Iterator[tuple[Combination, Exception]]:
    from training.cli import TrainCLI, apply_seed

    class ParserOnly(TrainCLI):
        """The parser, without a run: what `run` would do with the arguments is done below, once for each
        combination.
        """

        def instantiate_classes(self) -> None:
            pass

        def before_instantiate_classes(self) -> None:
            pass

        def _run_subcommand(self, subcommand: str) -> None:
            pass

        def _set_seed(self) -> None:
            pass

    before = sys.argv
    sys.argv = list(combinations[0].words)
    try:
        cli = ParserOnly()
    except UserError as error:
        yield combinations[0], error
        return
    finally:
        sys.argv = before
    built = set()  # what differs in its seed alone is built once
    for combination in combinations:
        try:
            config: Any = cli.parser.parse_args(list(combination.words[1:]))
            options = config[config["subcommand"]]
            apply_seed(options)
            kind = str({k: v for k, v in combination.options.items() if not is_seed(k)})
            if kind not in built:
                subcommand_parser(cli, config["subcommand"]).instantiate_classes(options)
                built.add(kind)
        except (UserError, ValueError) as error:
            yield combination, error


def _evaluation(combinations: list[Combination]) -> Iterator[tuple[Combination, Exception]]:
    from evaluation.command_line import make_parser, split_overrides
    from evaluation.config import read_config
    from evaluation.generation.config import is_generation, read_generation_config

    parser = make_parser()
    for combination in combinations:
        try:
            args, rest = parser.parse_known_args(list(combination.words[1:]))
            read = read_generation_config if is_generation(args.config) else read_config
            read(args.config, split_overrides(rest, []))
        except (UserError, ValueError) as error:
            yield combination, error
